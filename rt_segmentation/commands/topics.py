"""`rt_seg topics`: the nodes' topics as a table, or as a policy for SROS2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rt_segmentation.commands.options import OptionError

ONE_CAMERA = [""]
"""Its topics have no camera's name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "format", choices=("markdown", "sros2"), help="markdown: tables; sros2: a security policy"
    )
    parser.add_argument(
        "--cameras",
        nargs="+",
        metavar="NAME",
        default=ONE_CAMERA,
        help="camera names, as in the nodes' parameter `cameras`",
    )


def main(arguments: argparse.Namespace) -> None:
    """Print one of the two.

    Raises:
        OptionError: the nodes refuse such names of cameras.
    """
    from rt_segmentation.ros.security_policy import policy
    from rt_segmentation.ros.segmentation_parameters import check_cameras

    cameras = arguments.cameras
    if cameras != ONE_CAMERA and (why := check_cameras(cameras)):
        raise OptionError(f"--cameras is {' '.join(cameras)}: {why}")
    print(policy(cameras) if arguments.format == "sros2" else documentation(cameras), end="")


def documentation(cameras: Sequence[str] = ("",)) -> str:
    """The content of `docs/topics.md`."""
    from rt_segmentation.ros.topics import to_markdown, topics_of

    parts = [
        "# Topics\n\nMade by `rt_seg topics markdown`. A name with `~` is under the node's"
        " (`/segmentation_node/label`); all can be remapped.\n\nWith the parameter `cameras: [front, rear]`"
        " each camera has its own: `front/image` for `image`, `~/front/label` for `~/label`, and so on."
        " `rt_seg topics markdown --cameras front rear` lists them.\n"
    ]
    parts += [f"## {node}\n\n{to_markdown(topics)}" for node, topics in topics_of(cameras).items()]
    return "\n".join(parts)
