"""`rt_seg demo`: the whole way from camera to mask, shown."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from rt_segmentation.commands.options import at_least
from rt_segmentation.errors import RtSegmentationError


class DemoUnavailableError(RtSegmentationError, RuntimeError):
    """ROS 2 is not there; the message says how to get it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--model", default="enet", help="model: a name, or the path of a manifest (default enet)"
    )
    parser.add_argument(
        "--seconds", type=at_least(1), default=20.0, help="how long the camera publishes [s] (default 20)"
    )
    parser.add_argument(
        "--rate", type=at_least(0.01), default=10.0, help="camera's frame rate [Hz] (default 10)"
    )
    parser.add_argument(
        "--images", type=Path, help="folder of images, or video, to show in place of the street"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo_output"),
        help="folder for pictures and logs (default demo_output)",
    )


def main(arguments: argparse.Namespace) -> None:
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
