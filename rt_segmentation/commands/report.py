"""`rt_seg report`: the report of a bag evaluation made again from its JSON, and its verdict."""

from __future__ import annotations

import argparse
from pathlib import Path

from rt_segmentation.commands.options import add_thresholds

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "result", type=Path, metavar="RESULT", help="evaluation.json that rt_seg evaluate-bag wrote"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for index.html and report.md (default: report beside RESULT)"
    )
    add_thresholds(parser)


def main(arguments: argparse.Namespace) -> None:
    """Write the page and Markdown; the thresholds decide the exit status.

    Raises:
        ReportError: the file is no result of a bag evaluation, or a threshold is out of range.
        OSError: a file cannot be read or written.
        SystemExit: 1 where a threshold is missed.
    """
    from rt_segmentation.evaluation.bag.report import write_report
    from rt_segmentation.evaluation.bag.report.junit import Thresholds, judge
    from rt_segmentation.evaluation.bag.result import read_result

    thresholds = Thresholds(arguments.fail_under_miou, arguments.max_p95_ms, arguments.max_drop_rate)
    result = read_result(arguments.result)
    folder = arguments.result.parent
    for path in write_report(result, arguments.out or folder / "report", folder):
        print(path)
    if not judge(result, thresholds, arguments.junit):
        raise SystemExit(FAILED)
