"""`rt_seg compare`: an old model and a new one, class by class, with intervals, and a verdict for CI."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from rt_segmentation.commands.options import (
    add_data,
    add_engine,
    add_image_bits,
    add_truth_ids,
    data_options,
    refuse_data,
    say,
    to_json,
)
from rt_segmentation.commands.outputs import Outputs, check_outputs
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path, write_atomically

if TYPE_CHECKING:
    from rt_segmentation.evaluation.bag.report.junit import Case
    from rt_segmentation.evaluation.comparison.running import Compared, Pair
    from rt_segmentation.evaluation.comparison.tally import Change, Flow, Tally
    from rt_segmentation.inference.segmenter import Segmenter

NAME_WIDTH = 22
FAILED = 1
PICTURE = "most_changed.png"
UNUSED = "no frame has a labelled pixel: nothing was measured"
UNLABELLED = "no frame has a labelled pixel: the models are compared with one another alone"
WORDS = {"better": "better", "worse": "WORSE", "noise": "noise", "unknown": "too few frames to tell"}


@dataclass(frozen=True)
class Side:
    """One of the models, and its times of a frame [ms]; engine and precision as `what_ran` gives them."""

    model: str
    sha256: str
    engine: str
    precision: str
    median_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Changed:
    """A frame, and the share of its pixels whose label is another one."""

    name: str
    share: float


@dataclass(frozen=True)
class ComparisonResult:
    """All that is known of two models.

    Attributes:
        old, new: the models.
        data: in words.
        frames, labelled_frames: how many, and how many of them with a labelled pixel.
        mean_iou, classes: what became of the scores; None and empty without ground truth.
        agreement: share of the pixels with the same label, 0 to 1.
        became: what of the old labels is another one now.
        most_changed: frames, those that changed most first.
        notes: sentences.
    """

    old: Side
    new: Side
    data: str
    frames: int
    labelled_frames: int
    mean_iou: Change | None
    classes: Sequence[Change]
    agreement: float
    became: Sequence[Flow]
    most_changed: Sequence[Changed]
    notes: Sequence[str]

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        changes = {
            "mean_iou": None if self.mean_iou is None else self.mean_iou.to_plain(),
            "classes": [change.to_plain() for change in self.classes],
        }
        return {**asdict(self), **changes}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("old", metavar="OLD", help="a model, or the path of a manifest")
    parser.add_argument("new", metavar="NEW", help="another one")
    add_data(parser)
    parser.set_defaults(dataset=None, split=None)
    parser.add_argument(
        "--bag", type=user_path, action="append", default=[], help="instead of a data set; may be repeated"
    )
    parser.add_argument("--image-topic", metavar="T", help="of a bag's images (default: the only camera's)")
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument("--label-topic", metavar="L", help="of a bag's label images, the ground truth")
    truth.add_argument(
        "--labels", type=user_path, metavar="DIR", help="label PNGs named by stamp in ns, of a bag"
    )
    add_truth_ids(parser)
    add_image_bits(parser)
    add_engine(parser)
    parser.add_argument(
        "--no-class-worse-than",
        type=float,
        metavar="POINTS",
        help="exit with 1 where a class lost more points (hundredths) of IoU",
    )
    parser.add_argument("--junit", type=user_path, metavar="F", help="write that verdict as JUnit XML")
    parser.add_argument("--json", type=user_path, metavar="F", help="write all numbers")
    parser.add_argument(
        "--pictures", type=user_path, metavar="DIR", help="folder for the frames that changed most"
    )


def main(arguments: argparse.Namespace) -> None:
    """Compare, print, write what is asked for.

    Raises:
        ModelError, EngineError: a model cannot be run.
        OptionError, DatasetError, BagError, EvaluationError: the data are not as they should be, or a file
            or folder cannot be written.
        OutputError: one could not be written, when all else was done.
        SystemExit: 1 where a class is worse than it may be, a bag is damaged that was to tell, or the ground
            truth that was named has no labelled pixel.
    """
    from rt_segmentation.bags.splits import check_apart
    from rt_segmentation.evaluation.bag.report.junit import passed, write_suites
    from rt_segmentation.evaluation.comparison.pictures import MostChanged, comparison_picture
    from rt_segmentation.evaluation.comparison.running import Pair
    from rt_segmentation.evaluation.dataset import EvaluationError
    from rt_segmentation.imaging.pictures import write_picture
    from rt_segmentation.inference.segmenter import Segmenter
    from rt_segmentation.models import find_model

    _check(arguments)
    check_apart(arguments.bag)
    check_outputs(arguments, files=("junit", "json"), folders=("pictures",))
    manifests = [find_model(name) for name in (arguments.old, arguments.new)]
    old, new = (Segmenter.build(m, arguments.engine, arguments.precision) for m in manifests)
    pair = Pair(old, new)
    notes = list(pair.notes)
    most = MostChanged()
    damages = dict[str, str | None]()
    if arguments.bag:
        tally, source = _of_bags(arguments, pair, notes, damages)
    else:
        tally, source = _of_data(arguments, pair)
    for compared in source:
        tally.add(compared)
        most.add(compared)
    if not tally.frames:
        raise EvaluationError("there is no frame to compare the models on")
    mean, classes = tally.changes()
    result = ComparisonResult(
        _side(old, tally.old_ms),
        _side(new, tally.new_ms),
        _data(arguments),
        tally.frames,
        tally.labelled,
        mean if tally.labelled else None,
        classes if tally.labelled else [],
        tally.agreement(),
        tally.flows(),
        [Changed(frame.name, frame.changed) for frame in most.frames],
        notes,
    )
    suites = _judged(arguments, classes, tally.labelled, damages)
    outputs = Outputs()
    # Files come first: whoever reads what is printed may go away, as `| head` does.
    try:
        if arguments.junit is not None:
            with outputs.each():
                write_suites("rt_seg compare", suites, arguments.junit)
        if arguments.json is not None:
            with outputs.each():
                write_atomically(arguments.json, to_json(result.to_plain()))
        picture = None
        if arguments.pictures is not None and most.frames:
            with outputs.each():
                write_picture(arguments.pictures / PICTURE, comparison_picture(most.frames, pair.label_set))
                picture = arguments.pictures / PICTURE
    finally:
        print_comparison(result)
        for case in chain.from_iterable(suites.values()):
            if case.failure is not None:
                print(f"failed: {case.failure}")
    if picture is not None:
        print(f"the frames that changed most: {picture}")
    outputs.check()
    if not passed(suites):
        raise SystemExit(FAILED)


def print_comparison(result: ComparisonResult) -> None:
    """The classes, the mean, the agreement and the speed."""
    from rt_segmentation.inference.engines import in_words

    old, new = result.old, result.new
    before, after = (in_words(side.engine, side.precision) for side in (old, new))
    print(
        f"{old.model} ({before}) -> {new.model} ({after})"
        f" on {result.data}, {result.frames} frames, {result.labelled_frames} with labels"
    )
    if result.mean_iou is not None:
        print(f"\n{'IoU':{NAME_WIDTH}}{'old':>8}{'new':>8}{'change':>9}   95 % of the draws")
        for change in (*result.classes, result.mean_iou):
            print(_line(change))
    print(f"\nthe same label: {result.agreement:.2%} of the pixels")
    for flow in result.became:
        print(f"  {flow.share:6.1%} of the old {flow.old} is {flow.new} now")
    print(
        f"time for a frame, median: {old.median_ms:.1f} -> {new.median_ms:.1f} ms,"
        f" 95th percentile: {old.p95_ms:.1f} -> {new.p95_ms:.1f} ms"
    )
    for note in result.notes:
        print(f"note: {note}")


def _line(change: Change) -> str:
    scores = "".join(f"{'-' if math.isnan(v) else format(v, '.4f'):>8}" for v in (change.old, change.new))
    if math.isnan(change.difference):
        return f"{change.name:{NAME_WIDTH}}{scores}{'-':>9}   does not occur in both"
    if change.interval is None:
        between = ""
    else:
        low, high = change.interval
        between = f"{low:+.4f} to {high:+.4f}  "
    return f"{change.name:{NAME_WIDTH}}{scores}{change.difference:+9.4f}   {between}{WORDS[change.verdict]}"


def _check(arguments: argparse.Namespace) -> None:
    from rt_segmentation.evaluation.dataset import EvaluationError

    points = arguments.no_class_worse_than
    if points is not None and not 0 <= points <= 100:
        raise EvaluationError(f"--no-class-worse-than is {points:g}; it must be from 0 to 100 points of IoU")
    if arguments.junit is not None and points is None:
        raise EvaluationError("--junit writes the verdict of --no-class-worse-than, which is not given")
    refuse_data(arguments, "--bag" if arguments.bag else "")
    if not arguments.bag:
        for name in ("image_topic", "label_topic", "labels", "truth_classes", "void_id"):
            if getattr(arguments, name):
                raise EvaluationError(f"--{name.replace('_', '-')} is of a bag; give --bag as well")


def _of_data(arguments: argparse.Namespace, pair: Pair) -> tuple[Tally, Iterator[Compared]]:
    """The tally of a data set, and its frames."""
    from rt_segmentation.data.registry import open_dataset
    from rt_segmentation.evaluation.comparison.tally import Tally
    from rt_segmentation.evaluation.dataset import check_labels
    from rt_segmentation.imaging.frame import Frame

    options = data_options(arguments, pair.label_set)
    dataset = open_dataset(arguments.dataset, arguments.data_root, arguments.split, options)
    labelled = getattr(dataset, "has_labels", True)
    if labelled:
        check_labels(pair.label_set, dataset.label_set)
    tally = Tally(pair.label_set, dataset.ignored_ids if labelled else pair.label_set.void_ids)

    def compared() -> Iterator[Compared]:
        for index in progress(range(len(dataset)), len(dataset)):
            sample = dataset[index]
            yield pair.compare(sample.name, Frame.from_rgb(sample.image), sample.labels if labelled else None)
        if labelled and not tally.labelled:
            say(UNLABELLED)

    return tally, compared()


def _of_bags(
    arguments: argparse.Namespace, pair: Pair, notes: list[str], damages: dict[str, str | None]
) -> tuple[Tally, Iterator[Compared]]:
    """The tally of bags, and their frames; `notes` get what is odd, and `damages` what is of each bag."""
    from rt_segmentation.evaluation.bag.ids import truth_by_name
    from rt_segmentation.evaluation.comparison.bags import BagData, frames_of_bag
    from rt_segmentation.evaluation.comparison.tally import Tally
    from rt_segmentation.labels import load_label_set

    asked = _names_truth(arguments)
    classes = load_label_set(arguments.truth_classes) if arguments.truth_classes else pair.label_set
    truth = truth_by_name(classes, pair.label_set)
    ids = truth.id_table(arguments.void_id)
    tally = Tally(pair.label_set, pair.label_set.void_ids | truth.unscored)
    notes.extend(truth.notes if asked else ())

    def frames() -> Iterator[Any]:
        for path in arguments.bag:
            tally.begin_recording()
            data = BagData(
                path,
                arguments.image_topic,
                arguments.label_topic,
                arguments.labels,
                arguments.image_bits,
                arguments.truth_classes,
            )
            said: list[str] = []
            damages[str(path)] = yield from frames_of_bag(data, ids, said.append)
            notes.extend(f"{path.name}: {sentence}" for sentence in said)

    def compared() -> Iterator[Compared]:
        for name, frame, labels in progress(frames(), 0):
            yield pair.compare(name, frame, labels)
        if asked and not tally.labelled:
            say(UNLABELLED)

    return tally, compared()


def _data(arguments: argparse.Namespace) -> str:
    if arguments.bag:
        return ", ".join(path.name for path in arguments.bag)
    return " ".join(filter(None, (arguments.dataset, arguments.split)))


def _side(segmenter: Segmenter, times_ms: list[float]) -> Side:
    from rt_segmentation.inference.engines import what_ran

    config = segmenter.config
    ordered = sorted(times_ms)
    return Side(
        config.manifest.name,
        config.manifest.sha256,
        *what_ran(config.engine),
        statistics.median(ordered),
        ordered[math.ceil(0.95 * len(ordered)) - 1],
    )


def _judged(
    arguments: argparse.Namespace,
    classes: Sequence[Change],
    labelled: int,
    damages: Mapping[str, str | None],
) -> dict[str, list[Case]]:
    """The verdict's cases; what is judged is all that was to be judged.

    There are none where no limit was given, unless ground truth was named and no frame has any.
    """
    from rt_segmentation.evaluation.bag.report.junit import Case

    points = arguments.no_class_worse_than
    if points is not None:
        whole = [Case(f"bag {path} whole", damage) for path, damage in damages.items()]
        cases = [*_cases(classes, labelled, points), *whole]
    elif _names_truth(arguments) and not labelled:
        cases = [Case("ground truth used", UNUSED)]
    else:
        return {}
    return {f"{arguments.old} -> {arguments.new}": cases}


def _names_truth(arguments: argparse.Namespace) -> bool:
    """Whether the ground truth of bags is named: a data set's is its own."""
    return bool(arguments.label_topic or arguments.labels)


def _cases(classes: Sequence[Change], labelled: int, points: float) -> Iterator[Case]:
    """A case for each class; one that occurs nowhere cannot be worse."""
    from rt_segmentation.evaluation.bag.report.junit import Case

    yield Case("ground truth used", None if labelled else UNUSED)
    for change in classes:
        name = f"{change.name} not worse by more than {points:g} points"
        # A class that is neither true nor predicted by the new model cannot be wrong any more.
        lost = 0.0 if math.isnan(change.difference) else -100 * change.difference
        failure = None
        if lost > points:
            failure = f"{change.name} lost {lost:.1f} points of IoU; at most {points:g} are allowed"
            if change.interval is not None:
                low, high = (100 * bound for bound in change.interval)
                failure += f" (95 % of the draws: {low:+.1f} to {high:+.1f}"
                failure += ", which may be noise)" if change.verdict == "noise" else ")"
            else:
                failure += " (too few frames to tell it from noise)"
        yield Case(name, failure)
