"""Where a node's process begins: signals are answered before the imports, which take a second."""

from __future__ import annotations

import os
import signal


def answer_signals() -> None:
    """From now on SIGINT and SIGTERM end the process with status 0, until `run_node` has its own handlers.

    There is nothing to clean up yet; an exception would end in an import's traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def segmentation_node() -> int:
    """The segmentation node's program; see `run_node` for the exit status."""
    answer_signals()
    from rt_segmentation.ros.segmentation_node import main

    return main()


def camera_node() -> int:
    """The camera node's program; see `run_node` for the exit status."""
    answer_signals()
    from rt_segmentation.ros.camera_node import main

    return main()


def semantic_cloud_node() -> int:
    """The semantic cloud node's program; see `run_node` for the exit status."""
    answer_signals()
    from rt_segmentation.ros.cloud_node import main

    return main()
