"""`rt_seg parameters`: the nodes' parameters as a params file or as a table."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("format", choices=("yaml", "markdown"), help="a params file, or tables")


def main(arguments: argparse.Namespace) -> None:
    """Print one of the two."""
    print(params_file() if arguments.format == "yaml" else documentation(), end="")


def params_file() -> str:
    """The content of `config/seg.yaml`."""
    from rt_segmentation.ros.parameters import to_yaml
    from rt_segmentation.ros.tables import NODES

    # One section for all nodes fits whatever name or namespace a node gets. And rcl ranks sections in the
    # order in which their names first come: one for a node, here, would beat `-p` and a user's own `/**`.
    text = (
        "# Every parameter of the nodes with its default; made by `rt_seg parameters yaml`. A node takes\n"
        "# the names that are its own; one that several have is for all of them.\n/**:\n  ros__parameters:\n"
    )
    written: set[str] = set()
    for node, parameters in NODES.items():
        new = [parameter for parameter in parameters if parameter.name not in written]
        written.update(parameter.name for parameter in new)
        text += f"\n    # ---- {node} ----\n" + to_yaml("/**", new).split("\n", 2)[2]
    return text


def documentation() -> str:
    """The content of `docs/parameters.md`."""
    from rt_segmentation.ros.parameters import to_markdown
    from rt_segmentation.ros.tables import NODES

    parts = ["# Parameters\n\nMade by `rt_seg parameters markdown`.\n"]
    parts += [f"## {node}\n\n{to_markdown(parameters)}" for node, parameters in NODES.items()]
    return "\n".join(parts)
