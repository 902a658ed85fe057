"""`rt_seg report`: the report of a bag evaluation made again from its JSON, and its verdict."""

from __future__ import annotations

import argparse
from pathlib import Path

from rt_segmentation.commands.options import add_thresholds
from rt_segmentation.commands.outputs import Outputs, check_output, check_outputs
from rt_segmentation.files import check_folder, user_path

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "result", type=user_path, metavar="RESULT", help="evaluation.json that rt_seg evaluate-bag wrote"
    )
    parser.add_argument(
        "--out", type=user_path, help="folder for index.html and report.md (default: report beside RESULT)"
    )
    add_thresholds(parser)


def main(arguments: argparse.Namespace) -> None:
    """Write the page and Markdown; the thresholds decide the exit status.

    Raises:
        ReportError: the file is no result of a bag evaluation, or a threshold is out of range.
        OptionError: a file or folder cannot be written.
        OutputError: one could not be written, when the others were.
        SystemExit: 1 where a threshold is missed.
    """
    from rt_segmentation.evaluation.bag.report import write_report
    from rt_segmentation.evaluation.bag.report.junit import (
        Thresholds,
        check,
        is_refused,
        missed,
        write_suites,
    )
    from rt_segmentation.evaluation.bag.result import read_result

    thresholds = Thresholds(arguments.fail_under_miou, arguments.max_p95_ms, arguments.max_drop_rate)
    folder = arguments.result.parent
    out = arguments.out or folder / "report"
    check_outputs(arguments, files=("junit",))
    check_output("out", out, check_folder)
    result = read_result(arguments.result)
    suites = check(result, thresholds)
    outputs, written = Outputs(), list[Path]()
    with outputs.each():
        written += write_report(result, out, folder)
    if arguments.junit is not None:
        with outputs.each():
            write_suites("rt_seg evaluate-bag", suites, arguments.junit)
    for path in written:
        print(path)
    for sentence in missed(result, thresholds):
        print(f"failed: {sentence}")
    outputs.check()
    if is_refused(suites, thresholds, arguments.junit):
        raise SystemExit(FAILED)
