"""`rt_seg evaluate-bag`: models on recorded bags, as JSON, as a report, and as an exit code."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from rt_segmentation.commands.options import to_json
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.report import write_report
from rt_segmentation.evaluation.bag.report.junit import Thresholds, judge
from rt_segmentation.evaluation.bag.run import RESULT, bins_of_each, evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging.frame import Region
from rt_segmentation.imaging.placement import check_roi
from rt_segmentation.models import write_atomically

DRAW_S = 0.2
FAILED, SIGNALLED = 1, 128


def run(arguments: argparse.Namespace) -> None:
    """Evaluate, write everything, print a table.

    Raises:
        EvaluationError, BagError, ModelError, EngineError: see `evaluate_bags`.
        ReportError: a threshold is out of range.
        SystemExit: 1 where a threshold is missed, or ground truth was asked for and none used; 130 or 143
            where a signal ended it early.
    """
    settings = _settings(arguments)
    thresholds = Thresholds(arguments.fail_under_miou, arguments.max_p95_ms, arguments.max_drop_rate)
    stop, got = threading.Event(), list[int]()

    def on_signal(number: int, _: FrameType | None) -> None:
        got.append(number)
        stop.set()
        # Who asks twice does not want to wait.
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        result = evaluate_bags(
            arguments.bags,
            settings,
            shlex.join(["rt_seg", *sys.argv[1:]]),
            stop,
            _Progress(len(arguments.bags)),
            arguments.jobs,
            arguments.ray,
            arguments.resume,
            arguments.overwrite,
        )
        write_atomically(settings.out / RESULT, to_json(result))
        write_report(result, settings.out / "report", settings.out)
        print_table(result)
        print(f"\n{settings.out / RESULT}\n{settings.out / 'report' / 'index.html'}")
        passed = judge(result, thresholds, arguments.junit)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        raise SystemExit(SIGNALLED + got[0])
    if not passed or result["lacks_truth"]:
        raise SystemExit(FAILED)


def _settings(arguments: argparse.Namespace) -> Settings:
    if arguments.rate <= 0:
        raise EvaluationError(f"--rate is {arguments.rate:g}; it must be above 0")
    if arguments.roi is not None and (why := check_roi(arguments.roi)):
        raise EvaluationError(f"--roi is {' '.join(str(number) for number in arguments.roi)}: {why}")
    return Settings(
        models=tuple(arguments.model),
        out=arguments.out.resolve(),
        engine=arguments.engine,
        precision=arguments.precision,
        image_topic=arguments.image_topic,
        label_topic=arguments.label_topic,
        labels=None if arguments.labels is None else arguments.labels.resolve(),
        void_ids=tuple(arguments.void_id),
        mode=arguments.mode,
        rate=arguments.rate,
        write_bag=arguments.write_bag,
        video=arguments.video,
        max_bins=bins_of_each(len(arguments.bags)),
        image_bits=arguments.image_bits,
        roi=None if arguments.roi is None else Region(*arguments.roi),
        rotation=arguments.rotation,
    )


def print_table(result: Mapping[str, Any]) -> None:
    """A line for each model and each comparison, and all problems."""
    heads = ("model", "engine", "frames", "dropped", "fps", "p50 ms", "p95 ms", "mean IoU", "95 %")
    rows = [heads, *(_row(model) for model in result["models"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        print(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            )
        )
    for pair in result["comparisons"]:
        low, high = pair["interval"]
        verdict = "" if pair["significant"] else ": no more than noise"
        print(
            f"{pair['a']} - {pair['b']}: {pair['difference']:+.4f} mean IoU,"
            f" 95 % from {low:+.4f} to {high:+.4f}{verdict}"
        )
    for note in result["notes"]:
        print(f"note: {note}")
    for problem in result["problems"]:
        print(f"problem: {problem}")
    if result["partial"]:
        print("partial: the evaluation did not come to its end")


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    latency, accuracy = model["latency_ms"] or {}, model["accuracy"] or {}
    low_high = accuracy.get("interval")
    return (
        model["name"],
        f"{model['engine']} {model['precision']}" if model["engine"] else "-",
        str(model["received"]),
        "-" if model["drop_rate"] is None else f"{model['drop_rate']:.1%}",
        f"{model['fps']:.1f}",
        f"{latency['p50']:.1f}" if latency else "-",
        f"{latency['p95']:.1f}" if latency else "-",
        f"{accuracy['mean_iou']:.4f}" if accuracy else "-",
        f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else "-",
    )


class _Progress:
    """One line on a terminal: bags and frames that are done."""

    def __init__(self, bags: int) -> None:
        self._bags, self._done = bags, 0
        self._frames: dict[int, int] = {}
        self._drawn = 0.0
        self._on_terminal = sys.stderr.isatty()

    def __call__(self, bag: int, frames: int, finished: bool) -> None:
        self._frames[bag] = max(frames, self._frames.get(bag, 0))
        self._done += finished
        now = time.monotonic()
        if not self._on_terminal or (now - self._drawn < DRAW_S and self._done < self._bags):
            return
        self._drawn = now
        end = "\n" if self._done == self._bags else ""
        text = f"\r{self._done} of {self._bags} bags, {sum(self._frames.values())} frames "
        print(text, end=end, file=sys.stderr, flush=True)
