"""`rt_seg demo`: the whole way from camera to mask, shown."""

from __future__ import annotations

import argparse
import importlib.util

from rt_segmentation.errors import RtSegmentationError


class DemoUnavailableError(RtSegmentationError, RuntimeError):
    """ROS 2 is not there; the message says how to get it."""


def run(arguments: argparse.Namespace) -> None:
    """Run the demo.

    Raises:
        DemoUnavailableError: rclpy is not installed.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise DemoUnavailableError(
            "the demo needs ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    from rt_segmentation.ros.demo.run import DemoOptions, run_demo

    run_demo(DemoOptions(arguments.model, arguments.seconds, arguments.rate, arguments.images, arguments.out))
