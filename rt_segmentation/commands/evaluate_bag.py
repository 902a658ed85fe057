"""`rt_seg evaluate-bag`: models on recorded bags, as JSON, as a report, and as an exit code."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import (
    add_engine,
    add_groups,
    add_image_bits,
    add_thresholds,
    add_truth_ids,
    to_json,
)
from rt_segmentation.commands.outputs import Outputs, check_outputs
from rt_segmentation.files import user_path, write_atomically
from rt_segmentation.text import counted

if TYPE_CHECKING:
    from rt_segmentation.evaluation.bag.job import Settings
    from rt_segmentation.evaluation.bag.result import Evaluation, ModelResult

DRAW_S = 0.2
FAILED, SIGNALLED = 1, 128
MIN_RATE, MAX_RATE = 0.01, 100.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "bags", nargs="+", type=user_path, metavar="BAG", help="rosbag2 folder or file, or ROS 1 .bag file"
    )
    parser.add_argument(
        "--image-topic",
        metavar="T",
        help="image topic (default: the only image topic that has neither labels nor depth)",
    )
    parser.add_argument("--label-topic", metavar="L", help="topic of the ground truth's label images")
    parser.add_argument(
        "--labels",
        type=user_path,
        metavar="DIR",
        help="folder of ground-truth label PNGs, named by stamp [ns]",
    )
    add_truth_ids(parser)
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        help="model: a name, or the path of a manifest; may be repeated",
    )
    add_engine(parser)
    parser.add_argument(
        "--mode",
        choices=("throughput", "realtime"),
        default="throughput",
        help="throughput (default): every frame, as fast as possible; realtime: at the recorded pace, the"
        " newest frame first",
    )
    parser.add_argument("--rate", type=float, default=1.0, help="playback speed in realtime mode (default 1)")
    parser.add_argument(
        "--parallel-frames",
        type=int,
        default=1,
        choices=range(1, 65),
        metavar="N",
        help="frames segmented concurrently in realtime mode, as the node's parallel_frames (default 1)",
    )
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("bag_evaluation"),
        help="folder for all results (default bag_evaluation)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace the evaluation in --out")
    existing.add_argument("--resume", action="store_true", help="continue the evaluation in --out")
    parser.add_argument("--write-bag", action="store_true", help="write the masks as a bag (mcap)")
    parser.add_argument(
        "--cloud-topic",
        metavar="C",
        help="topic of depth images or point clouds, whose labelled clouds are written into the bag of masks",
    )
    parser.add_argument(
        "--camera-info-topic",
        metavar="I",
        help="calibration topic of the images, for --cloud-topic (default: beside them, or the only one)",
    )
    parser.add_argument(
        "--cloud-tolerance",
        type=float,
        default=0.02,
        metavar="S",
        help="largest difference of the stamps of an image and its cloud [s] (default 0.02)",
    )
    parser.add_argument("--video", action="store_true", help="write the overlays as an MP4 video")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="number of processes; each evaluates one bag at a time"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="address of a Ray cluster; 'local' starts one on this machine"
    )
    parser.add_argument(
        "--roi",
        type=int,
        nargs=4,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="part of the images to segment and to measure [px]",
    )
    parser.add_argument(
        "--rotation",
        type=int,
        default=0,
        choices=(0, 90, 180, 270),
        help="rotate the images clockwise by this angle before segmenting [deg] (default 0)",
    )
    add_groups(parser)
    add_image_bits(parser)
    add_thresholds(parser)


def main(arguments: argparse.Namespace) -> None:
    """Evaluate, write everything, print a table.

    Raises:
        EvaluationError, BagError, ModelError, EngineError: see `evaluate_bags`.
        ReportError: a threshold is out of range.
        OptionError: a file or folder cannot be written.
        EvaluationError: some of the bags could not be read, after the others were evaluated; or a video,
            pictures or a state could not be written.
        OutputError: a file could not be written, when all else was done.
        SystemExit: 1 where a threshold is missed, or ground truth was asked for and none used; 130 or 143
            where a signal ended it early.
    """
    from rt_segmentation.evaluation.bag.report import write_report
    from rt_segmentation.evaluation.bag.report.junit import (
        Thresholds,
        check,
        is_refused,
        missed,
        write_suites,
    )
    from rt_segmentation.evaluation.bag.run import RESULT, evaluate_bags
    from rt_segmentation.evaluation.dataset import EvaluationError

    settings = _settings(arguments)
    thresholds = Thresholds(arguments.fail_under_miou, arguments.max_p95_ms, arguments.max_drop_rate)
    check_outputs(arguments, files=("junit",), folders=("out",))
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
        suites = check(result, thresholds)
        outputs, written = Outputs(), list[Path]()
        # Files come first: whoever reads what is printed may go away, as `| head` does.
        try:
            with outputs.each():
                write_atomically(settings.out / RESULT, to_json(result.to_plain()))
                written.append(settings.out / RESULT)
            with outputs.each():
                written += write_report(result, settings.out / "report", settings.out)[:1]
            if arguments.junit is not None:
                with outputs.each():
                    write_suites("rt_seg evaluate-bag", suites, arguments.junit)
        finally:
            print_table(result)
            for sentence in missed(result, thresholds):
                print(f"failed: {sentence}")
            print("", *written, sep="\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        raise SystemExit(SIGNALLED + got[0])
    unread = [bag for bag in result.bags if bag.problem is not None and not bag.frames]
    if unread:
        # What is judged is not all that was to be judged.
        raise EvaluationError(f"{len(unread)} of {len(result.bags)} bags could not be read, see the problems")
    if bare := sum(not bag.frames for bag in result.bags):
        raise EvaluationError(f"{bare} of {len(result.bags)} bags have no images, see the problems")
    if not any(model.segmented for model in result.models):
        raise EvaluationError("none of the images could be segmented, see the problems")
    if result.unwritten:
        raise EvaluationError(f"{counted(result.unwritten, 'output')} could not be written, see the problems")
    outputs.check()
    if is_refused(suites, thresholds, arguments.junit) or result.lacks_truth:
        raise SystemExit(FAILED)


def _settings(arguments: argparse.Namespace) -> Settings:
    from rt_segmentation.evaluation.bag.job import Settings
    from rt_segmentation.evaluation.bag.run import bins_of_each
    from rt_segmentation.evaluation.dataset import EvaluationError
    from rt_segmentation.imaging.frame import Region
    from rt_segmentation.imaging.placement import check_roi

    if not MIN_RATE <= arguments.rate <= MAX_RATE:
        raise EvaluationError(
            f"--rate is {arguments.rate:g}; it must be from {MIN_RATE:g} to {MAX_RATE:g} times the recorded"
            " pace"
        )
    if not 0 <= arguments.cloud_tolerance <= 10:
        raise EvaluationError(
            f"--cloud-tolerance is {arguments.cloud_tolerance:g}; it must be from 0 to 10 seconds"
        )
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
        parallel_frames=arguments.parallel_frames,
        write_bag=arguments.write_bag,
        video=arguments.video,
        max_bins=bins_of_each(len(arguments.bags)),
        image_bits=arguments.image_bits,
        roi=None if arguments.roi is None else Region(*arguments.roi),
        rotation=arguments.rotation,
        groups=arguments.groups,
        truth_classes=arguments.truth_classes,
        cloud_topic=arguments.cloud_topic,
        camera_info_topic=arguments.camera_info_topic,
        cloud_tolerance_s=arguments.cloud_tolerance,
    )


def print_table(result: Evaluation) -> None:
    """A line for each model and each comparison, and all problems."""
    heads = (
        *("model", "engine", "frames", "dropped", "fps", "p50 ms", "p95 ms"),
        *("labelled", "mean IoU", "95 %"),
    )
    rows = [heads, *(_row(model) for model in result.models)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        print(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            )
        )
    for pair in result.comparisons:
        low, high = pair.interval
        verdict = "" if pair.significant else ": no more than noise"
        print(
            f"{pair.a} - {pair.b}: {pair.difference:+.4f} mean IoU,"
            f" 95 % from {low:+.4f} to {high:+.4f}{verdict}"
        )
    for note in result.notes:
        print(f"note: {note}")
    for problem in result.problems:
        print(f"problem: {problem}")
    if result.partial:
        print("partial: the evaluation did not come to its end")


def _row(model: ModelResult) -> tuple[str, ...]:
    latency, accuracy = model.latency_ms, model.accuracy

    def show(value: float | None, form: str = ".1f") -> str:
        return "-" if value is None else format(value, form)

    return (
        model.name,
        f"{model.engine} {model.precision}" if model.engine else "-",
        str(model.received),
        show(model.drop_rate, ".1%"),
        show(model.fps),
        show(latency and latency.p50),
        show(latency and latency.p95),
        str(accuracy.frames) if accuracy else "-",
        show(accuracy and accuracy.mean_iou, ".4f"),
        " to ".join(show(bound, ".4f") for bound in accuracy.interval)
        if accuracy and accuracy.interval
        else "-",
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
