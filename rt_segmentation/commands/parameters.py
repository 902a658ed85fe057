"""`rt_seg parameters`: the nodes' parameters as a params file or as a table."""

from __future__ import annotations

import argparse

from rt_segmentation.ros.camera_parameters import PARAMETERS as CAMERA
from rt_segmentation.ros.parameters import Parameter, to_markdown, to_yaml
from rt_segmentation.ros.segmentation_parameters import PARAMETERS as SEGMENTATION

NODES: dict[str, tuple[Parameter, ...]] = {"segmentation_node": SEGMENTATION, "camera_node": CAMERA}


def run(arguments: argparse.Namespace) -> None:
    """Print one of the two."""
    print(params_file() if arguments.format == "yaml" else documentation(), end="")


def params_file() -> str:
    """The content of `config/seg.yaml`."""
    head = "# Every parameter of segmentation_node with its default; made by `rt_seg parameters yaml`.\n"
    # A section for all nodes fits whatever name or namespace the node gets.
    return head + to_yaml("/**", SEGMENTATION)


def documentation() -> str:
    """The content of `docs/parameters.md`."""
    parts = ["# Parameters\n\nMade by `rt_seg parameters markdown`.\n"]
    parts += [f"## {node}\n\n{to_markdown(parameters)}" for node, parameters in NODES.items()]
    return "\n".join(parts)
