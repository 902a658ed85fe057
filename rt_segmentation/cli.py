"""The command line `rt_seg`: each command brings its options, and imports what it needs when it is called."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from rt_segmentation import __version__
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.networks import allow_network, allowed_networks
from rt_segmentation.text import nobody_reads_stdout

UNREAD = 141
"""The exit status where nobody reads on what is printed, as a shell has it for SIGPIPE."""

# Each command is the module of that name in `rt_segmentation.commands`, with `add_arguments` and `main`.
COMMANDS = {
    "segment": "segment an image, a folder, a video or a camera's images",
    "train": "train a network as a recipe says, or go on with a training",
    "models": "list, show and import models",
    "evaluate": "measure a model on a data set",
    "compare": "an old model and a new one: what got better, what got worse, what is noise",
    "evaluate-bag": "measure models on recorded bags, without ROS",
    "report": "make the report of a bag evaluation again",
    "bag": "make a rosbag of images, or look into rosbags",
    "dataset": "look into a data set, split it, exchange its labels with annotation tools",
    "submit": "write what a benchmark's server takes",
    "export": "build a model's engine before it is needed",
    "tune": "time all engines here, so that auto takes the fastest",
    "cache": "engines kept on disk",
    "benchmark": "time engines, or the whole node, on this machine",
    "demo": "camera, node and viewer over DDS, with tables and pictures",
    "parameters": "print the nodes' parameters",
    "topics": "print the nodes' topics",
}


class Parser(argparse.ArgumentParser):
    """Refuses what is no argument of a command with that command's usage, not with that of `rt_seg`."""

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """See `argparse.ArgumentParser`, whose commands leave what they do not know to the parser above."""
        found, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = Parser(prog="rt_seg", description="Real-time semantic segmentation for ROS 2.")
    parser.add_argument("--version", action="version", version=f"rt_segmentation {__version__}")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="a network of your own that models may have; may be repeated",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        module = importlib.import_module(f"rt_segmentation.commands.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    return parser


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for completions, where argcomplete is installed."""
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):
            from argcomplete import autocomplete

            autocomplete(parser)


def _open_streams() -> None:
    """Let what is printed go nowhere where a process was given no stdout or stderr, as a daemon may be.

    Python has None for them then; and the next file that is opened would be what libraries print to.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0; 2 with one sentence on stderr for bad input, with its traceback too where the
        environment variable RT_SEG_TRACEBACK is set; 130 after Ctrl-C; `UNREAD` where
        stdout is a pipe that nobody reads on, as of `| head`.

    Raises:
        Exception: a fault of this package; a line on stderr says so before the traceback.
    """
    _open_streams()
    # A file's name need not be UTF-8; what is printed of it is, for people as for who reads JSON.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = build_parser()
    _complete(parser)
    arguments = parser.parse_args(argv)
    try:
        for place in arguments.network:
            allow_network(place)
        arguments.main(arguments)
        sys.stdout.flush()
    except (RtSegmentationError, OSError) as error:
        if os.environ.get("RT_SEG_TRACEBACK"):
            traceback.print_exc()
        if isinstance(error, BrokenPipeError) and nobody_reads_stdout():
            return UNREAD
        # Its number says nothing to people, and the words after it say the same.
        number = f"[Errno {error.errno}] " if isinstance(error, OSError) else ""
        print(f"rt_seg {arguments.command}: {str(error).removeprefix(number)}", file=sys.stderr)
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
