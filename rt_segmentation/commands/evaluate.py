"""`rt_seg evaluate`: accuracy on a data set, as a table, as JSON and as pictures."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import add_data, add_engine, add_groups, data_options, to_json
from rt_segmentation.commands.outputs import Outputs, check_outputs
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path, write_atomically

if TYPE_CHECKING:
    from rt_segmentation.data.dataset import SegmentationDataset
    from rt_segmentation.evaluation.report import Report, Scores
    from rt_segmentation.inference.segmenter import Segmenter

BAR_WIDTH = 30
NAME_WIDTH = 22
PICTURES_OF_EACH = 3


@dataclass(frozen=True)
class Evaluated:
    """A model, what ran it, and what it was evaluated on; groups are None where its classes count."""

    model: str
    engine: str
    precision: str
    dataset: str
    split: str
    groups: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--model", required=True, help="model: a name, or the path of a manifest")
    add_data(parser)
    add_engine(parser)
    add_groups(parser)
    parser.add_argument("--json", type=user_path, help="also write the result to this file")
    parser.add_argument(
        "--pictures",
        type=user_path,
        help="write pictures of the best, median and worst frames to this folder",
    )


def main(arguments: argparse.Namespace) -> None:
    """Evaluate, print the table, write JSON and pictures if they are asked for.

    Raises:
        ModelError, EngineError: the model cannot be run.
        DatasetError: the data are not as they should be.
        GroupsError: the groups are not of the model's classes, or of the data's.
        EvaluationError: they have no labelled pixel, or other classes than the model.
        OptionError: a file or folder cannot be written.
        OutputError: one could not be written, when all else was done.
    """
    from rt_segmentation.data.grouped import Grouped
    from rt_segmentation.data.registry import open_dataset
    from rt_segmentation.evaluation.dataset import EvaluationError, segment_all
    from rt_segmentation.evaluation.report import Report
    from rt_segmentation.groups import grouping
    from rt_segmentation.inference.engines import what_ran
    from rt_segmentation.inference.segmenter import Segmenter
    from rt_segmentation.models import find_model

    check_outputs(arguments, files=("json",), folders=("pictures",))
    manifest = find_model(arguments.model)
    labels = manifest.labels()
    groups = grouping(arguments.groups, labels)
    options = data_options(arguments, labels)
    dataset = open_dataset(arguments.dataset, arguments.data_root, arguments.split, options)
    if not getattr(dataset, "has_labels", True):
        raise EvaluationError(
            f"split '{arguments.split}' of {arguments.dataset} has no labels to compare with"
        )
    of_data = grouping(arguments.groups, dataset.label_set)
    if of_data is not None:
        dataset = Grouped(dataset, of_data)
    segmenter = Segmenter.build(manifest, arguments.engine, arguments.precision)
    segmenter.config = replace(segmenter.config, groups=groups)
    report = Report(dataset)
    # The confidence is a class's: it says nothing about groups.
    for sample, found in progress(segment_all(segmenter, dataset, groups is None), len(dataset)):
        report.add(sample, found.labels, found.confidence)
    if not report.measured:
        raise EvaluationError(
            f"no frame of split '{arguments.split}' of {arguments.dataset} has a labelled pixel of a class"
            " that is evaluated: there is nothing to compare with"
        )
    evaluated = Evaluated(
        manifest.name,
        *what_ran(segmenter.config.engine),
        arguments.dataset,
        arguments.split,
        arguments.groups or None,
    )
    scores = report.result()
    outputs = Outputs()
    # Files come first: whoever reads what is printed may go away, as `| head` does.
    try:
        if arguments.json is not None:
            with outputs.each():
                write_atomically(arguments.json, to_json({**asdict(evaluated), **scores.to_plain()}))
        if arguments.pictures is not None:
            with outputs.each():
                write_pictures(segmenter, dataset, report, arguments.pictures)
    finally:
        print_table(evaluated, scores)
    outputs.check()


def print_table(evaluated: Evaluated, scores: Scores) -> None:
    """The classes with bars, then the categories, then the means."""
    from rt_segmentation.inference.engines import in_words

    groups = f" in groups {evaluated.groups}" if evaluated.groups else ""
    print(
        f"{evaluated.model} on {evaluated.dataset} {evaluated.split}{groups}, {scores.frames} frames,"
        f" engine {in_words(evaluated.engine, evaluated.precision)}"
    )
    kinds = (
        ("class", scores.class_iou, scores.class_iiou),
        ("category", scores.category_iou, scores.category_iiou),
    )
    for kind, ious, instance_scores in kinds:
        if ious is None:
            continue
        print(f"\n{kind:{NAME_WIDTH}}{'IoU':>7}" + (f"{'iIoU':>8}" if instance_scores else ""))
        for name, iou in ious.items():
            bar = "" if math.isnan(iou) else "█" * round(iou * BAR_WIDTH)
            column = f"{instance_scores.get(name, math.nan):8.4f}" if instance_scores else ""
            print(f"{name:{NAME_WIDTH}}{iou:7.4f}{column.replace('nan', '  -')} {bar}".rstrip())
    print()
    means = {
        "mean_iou": scores.mean_iou,
        "iiou": scores.iiou,
        "mean_category_iou": scores.mean_category_iou,
        "mean_category_iiou": scores.mean_category_iiou,
        "class_average": scores.class_average,
        "global_average": scores.global_average,
        "image_dice": scores.image_dice,
        "calibration_error": scores.calibration_error,
    }
    for name, score in means.items():
        if score is not None:
            print(f"{name:{NAME_WIDTH}}{score:7.4f}")


def write_pictures(segmenter: Segmenter, dataset: SegmentationDataset, report: Report, folder: Path) -> None:
    """Write best.png, median.png and worst.png: image, truth, prediction and overlay of some frames each.

    The frames are segmented again: keeping all predictions would need memory without bound.
    """
    from rt_segmentation.evaluation.dataset import segment_image
    from rt_segmentation.imaging.pictures import sheet, write_picture
    from rt_segmentation.imaging.render import colorize, overlay

    folder.mkdir(parents=True, exist_ok=True)
    palette = dataset.label_set.palette()
    for kind, indices in report.frames_to_show(PICTURES_OF_EACH).items():
        rows = []
        for index in indices:
            sample = dataset[index]
            predicted = segment_image(segmenter, sample.image)
            rows.append(
                [
                    (f"{sample.name}: {report.frame_scores[index]:.3f}", sample.image),
                    ("truth", colorize(sample.labels, palette)),
                    ("prediction", colorize(predicted, palette)),
                    ("overlay", overlay(sample.image, predicted, palette)),
                ]
            )
        if rows:
            write_picture(folder / f"{kind}.png", sheet(rows, dataset.label_set))
