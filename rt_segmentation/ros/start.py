"""Where a node's process begins: signals are answered before the imports, which take a second."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals


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


def ground_grid_node() -> int:
    """The ground grid node's program; see `run_node` for the exit status."""
    answer_signals()
    from rt_segmentation.ros.ground_node import main

    return main()
