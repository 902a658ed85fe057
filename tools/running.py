"""What the instruments share: an instrument is run as a command of `rt_seg` is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from rt_segmentation.errors import RtSegmentationError


def run_tool(
    text: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    main: Callable[[argparse.Namespace], None],
) -> None:
    """Run an instrument with the options of the command line; what goes wrong is one sentence.

    Args:
        text: what it does.
        add_arguments: adds its options.
        main: is called with their values.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    try:
        main(parser.parse_args())
    except (RtSegmentationError, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        sys.exit(130)
