"""Where a node's process begins: signals are answered before the imports, which take a second."""

from __future__ import annotations

import importlib
import sys

from rt_segmentation.ros.signals import answer_signals


def segmentation_node() -> int:
    """The segmentation node's program; see `run_node` for the exit status."""
    return _run("segmentation_node")


def camera_node() -> int:
    """The camera node's program; see `run_node` for the exit status."""
    return _run("camera_node")


def semantic_cloud_node() -> int:
    """The semantic cloud node's program; see `run_node` for the exit status."""
    return _run("cloud_node")


def ground_grid_node() -> int:
    """The ground grid node's program; see `run_node` for the exit status."""
    return _run("ground_node")


def _run(module: str) -> int:
    answer_signals()
    try:
        main = importlib.import_module(f"rt_segmentation.ros.{module}").main
    except ImportError as error:
        # pip put NumPy 2 beside libraries of the system, and NumPy names no more than its own part.
        if "numpy.core.multiarray" not in str(error):
            raise
        print(
            "OpenCV, or another library of the system, was built for NumPy 1, and this is NumPy 2:"
            " pip install 'numpy<2'",
            file=sys.stderr,
        )
        return 1
    return int(main())
