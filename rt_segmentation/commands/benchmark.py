"""`rt_seg benchmark`: measurements of this machine, as JSON and as Markdown."""

from __future__ import annotations

import argparse

from rt_segmentation.commands import benchmark_engines, benchmark_node, benchmark_startup

SUBJECTS = {
    "engines": (benchmark_engines, "time the engines that are here"),
    "node": (benchmark_node, "the highest rate that the node holds over DDS, and its latency"),
    "startup": (benchmark_startup, "the node's first mask from a warm cache, and its memory"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subjects and their options."""
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    for name, (module, text) in SUBJECTS.items():
        module.add_arguments(subjects.add_parser(name, help=text))


def main(arguments: argparse.Namespace) -> None:
    """Measure; see the subjects for what is raised."""
    SUBJECTS[arguments.subject][0].main(arguments)
