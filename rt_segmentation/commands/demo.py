"""`rt_seg demo`: the whole way from camera to mask, shown."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from rt_segmentation.commands.options import OptionError, check_number
from rt_segmentation.commands.outputs import check_outputs
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import user_path


class DemoUnavailableError(RtSegmentationError, RuntimeError):
    """ROS 2 is not there; the message says how to get it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--model", default="enet", help="model: a name, or the path of a manifest (default enet)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="how long the camera publishes [s] (default 20)"
    )
    parser.add_argument("--rate", type=float, default=10.0, help="camera's frame rate [Hz] (default 10)")
    parser.add_argument(
        "--images", type=user_path, help="folder of images, or video, to show in place of the street"
    )
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("demo_output"),
        help="folder for pictures and logs (default demo_output)",
    )


def main(arguments: argparse.Namespace) -> None:
    """Run the demo.

    Raises:
        OptionError: a number among the options makes no sense.
        DemoUnavailableError: rclpy is not installed.
    """
    from rt_segmentation.ros.camera_parameters import PARAMETERS

    for name, unit in (("seconds", "seconds"), ("rate", "frames per second")):
        check_number(name, getattr(arguments, name), unit, 10, above_0=True)
    # The camera node would say so after the engine is built.
    least, most = next((p.minimum, p.maximum) for p in PARAMETERS if p.name == "rate_hz")
    if not least <= arguments.rate <= most:
        raise OptionError(
            f"--rate {arguments.rate:g} is not within {least:g} to {most:g} frames per second, as 10"
        )
    check_outputs(arguments, folders=("out",))
    if importlib.util.find_spec("rclpy") is None:
        raise DemoUnavailableError(
            "the demo needs ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    from rt_segmentation.ros.demo.run import DemoOptions, run_demo

    run_demo(DemoOptions(arguments.model, arguments.seconds, arguments.rate, arguments.images, arguments.out))
