"""The command line `rt_seg`; what a command needs is imported when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

from rt_segmentation import __version__
from rt_segmentation.arguments import build_parser
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.networks import allow_network, allowed_networks

# Each command's module in `rt_segmentation.commands`, and its function there.
COMMANDS = {
    "segment": "segment:run",
    "train": "train:run",
    "models": "models:run",
    "evaluate": "evaluate:run",
    "evaluate-bag": "evaluate_bag:run",
    "report": "report:run",
    "bag": "bag:run",
    "dataset": "dataset:run",
    "submit": "submit:run",
    "export": "engines:export",
    "cache": "engines:run_cache",
    "tune": "engines:tune",
    "benchmark": "benchmark:run",
    "demo": "demo:run",
    "parameters": "parameters:run",
    "topics": "topics:run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0; 2 with one sentence on stderr for bad input, with its traceback too where the
        environment variable RT_SEG_TRACEBACK is set; 130 after Ctrl-C.

    Raises:
        Exception: a fault of this package; a line on stderr says so before the traceback.
    """
    # A file's name need not be UTF-8; what is printed of it is, for people as for who reads JSON.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    try:
        for place in arguments.network:
            allow_network(place)
        module_name, function = COMMANDS[arguments.command].split(":")
        module = importlib.import_module(f"rt_segmentation.commands.{module_name}")
        getattr(module, function)(arguments)
    except (RtSegmentationError, OSError) as error:
        if os.environ.get("RT_SEG_TRACEBACK"):
            traceback.print_exc()
        print(f"rt_seg {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"rt_seg {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except Exception:
        yours = ", ".join(allowed_networks())
        print(
            f"rt_seg {arguments.command}: "
            + (
                f"this is a fault of your network ({yours}) or of rt_segmentation {__version__}; the lines"
                " below say where"
                if yours
                else f"this is a fault of rt_segmentation {__version__}, not of your input; please report it"
                " with the lines below"
            ),
            file=sys.stderr,
        )
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
