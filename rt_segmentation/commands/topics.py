"""`rt_seg topics`: the nodes' topics as a table, or as a policy for SROS2."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("format", choices=("markdown", "sros2"), help="tables, or a security policy")


def main(arguments: argparse.Namespace) -> None:
    """Print one of the two."""
    from rt_segmentation.ros.security_policy import policy

    print(policy() if arguments.format == "sros2" else documentation(), end="")


def documentation() -> str:
    """The content of `docs/topics.md`."""
    from rt_segmentation.ros.topics import TOPICS, to_markdown

    parts = [
        "# Topics\n\nMade by `rt_seg topics markdown`. A name with `~` is under the node's"
        " (`/segmentation_node/label`); all can be remapped.\n"
    ]
    parts += [f"## {node}\n\n{to_markdown(topics)}" for node, topics in TOPICS.items()]
    return "\n".join(parts)
