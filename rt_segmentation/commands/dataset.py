"""`rt_seg dataset`: what is in a data set and wrong with it; labels out to annotation tools and back."""

from __future__ import annotations

import argparse
import math
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.commands import dataset_exchange, dataset_split
from rt_segmentation.commands.options import add_data, parse_options, to_json
from rt_segmentation.commands.outputs import Outputs, check_output, check_outputs
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path, write_atomically
from rt_segmentation.text import counted

if TYPE_CHECKING:
    from rt_segmentation.data.dataset import SegmentationDataset
    from rt_segmentation.data.statistics import Statistics

BAR_WIDTH = 30
NAME_WIDTH = 22
SAMPLES = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    stats = actions.add_parser("stats", help="frequencies, weights, mean and std, and what is wrong")
    add_data(stats)
    stats.add_argument("--out", type=user_path, help="write a picture of samples (.png)")
    stats.add_argument("--json", type=user_path, help="write the numbers into this file as well")
    stats.add_argument(
        "--across",
        nargs="+",
        default=[],
        metavar="SPLIT",
        help="other splits, as train: find near duplicates and frames of the same drives in them",
    )
    dataset_split.add_arguments(actions)
    dataset_exchange.add_arguments(actions)


def main(arguments: argparse.Namespace) -> None:
    """Run an action of `dataset`.

    Raises:
        RtSegmentationError, OSError: as the action raises it.
    """
    actions = {
        "stats": _stats,
        "split": dataset_split.split,
        "export": dataset_exchange.export,
        "import": dataset_exchange.import_file,
        "prelabel": dataset_exchange.prelabel,
    }
    actions[arguments.action](arguments)


def _stats(arguments: argparse.Namespace) -> None:
    """Read every frame, print the table, write JSON and a picture of samples if they are asked for.

    Raises:
        DatasetError: the data set cannot be opened; or, after everything is printed and written, some of its
            files are wrong.
        OptionError: a file cannot be written.
        OutputError: one could not be written, when all else was done.
    """
    from rt_segmentation.data.dataset import DatasetError, name_some
    from rt_segmentation.data.leaks import Split, leaks
    from rt_segmentation.data.registry import open_dataset
    from rt_segmentation.data.statistics import survey
    from rt_segmentation.imaging.files import check_picture

    check_outputs(arguments, files=("json", "out"))
    if arguments.out is not None:
        check_output("out", arguments.out, check_picture)
    options = parse_options(arguments.option)
    dataset = open_dataset(arguments.dataset, arguments.data_root, arguments.split, options, complete=False)
    if arguments.split in arguments.across:
        raise DatasetError(f"--across names '{arguments.split}', the split itself; name another one")
    others = [
        (name, open_dataset(arguments.dataset, arguments.data_root, name, options, complete=False))
        for name in arguments.across
    ]
    own = Split(arguments.split)
    (statistics,) = deque(progress(survey(dataset, own.add if others else None), len(dataset) + 1), maxlen=1)
    shared = []
    for name, other in others:
        theirs = Split(name)
        (survey_of_other,) = deque(progress(survey(other, theirs.add), len(other) + 1), maxlen=1)
        shared += leaks(own, theirs)
        statistics.problems += survey_of_other.problems
    # Files come first: whoever reads what is printed may go away, as `| head` does.
    outputs = Outputs()
    try:
        if arguments.json is not None:
            content = {
                "dataset": arguments.dataset,
                "split": arguments.split,
                **({"leaks": shared} if others else {}),
                **statistics.as_dict(),
            }
            with outputs.each():
                write_atomically(arguments.json, to_json(content))
        if arguments.out is not None and statistics.frames:
            with outputs.each():
                write_samples(dataset, arguments.out)
    finally:
        print_table(statistics)
        for sentence in shared:
            print(f"leak: {sentence}")
        if others and not shared:
            print(f"no near duplicates and no drives are shared with {', '.join(arguments.across)}")
    outputs.check()
    if statistics.problems:
        raise DatasetError(
            f"{counted(len(statistics.problems), 'problem')}:\n"
            + name_some(statistics.problems, separator="\n")
        )


def print_table(statistics: Statistics) -> None:
    """The classes with frequencies, weights and bars; then the images."""
    import numpy as np

    sizes = ", ".join(f"{count} of {w}x{h}" for (w, h), count in sorted(statistics.sizes.items()))
    print(f"{statistics.frames} frames: {sizes or 'none'}\n")
    frequencies = statistics.frequencies()
    largest = np.nanmax(frequencies) if statistics.pixels.any() else math.nan
    print(f"{'class':{NAME_WIDTH}}{'share':>9}{'frames':>8}{'1/ln(1.02+p)':>14}{'median/freq':>13}")
    columns = (
        statistics.label_set.names,
        frequencies,
        statistics.frames_with,
        statistics.log_weights(),
        statistics.median_frequency_weights(),
    )
    for name, share, frames, log_weight, median_weight in zip(*columns):
        bar = "█" * round(share / largest * BAR_WIDTH) if share > 0 else ""
        row = f"{name:{NAME_WIDTH}}{share:9.5f}{frames:8d}{log_weight:14.3f}{median_weight:13.3f} {bar}"
        print(row.replace("nan", "  -").rstrip())
    values = statistics.as_dict()
    if statistics.frames:
        print(f"\nunlabelled {values['unlabelled_share']:.4f} of all pixels")
        for key in ("mean", "std"):
            print(f"{key:5}" + " ".join(f"{value:.4f}" for value in values[key]) + "  (R G B, of 1)")
    for note in values["notes"]:
        print(f"note: {note}")


def write_samples(dataset: SegmentationDataset, path: Path) -> None:
    """Write a picture of frames from all over the data set: image, labels, both; bad ones are skipped."""
    import numpy as np

    from rt_segmentation.data.dataset import DatasetError
    from rt_segmentation.imaging.pictures import sheet, write_picture
    from rt_segmentation.imaging.render import colorize, overlay

    palette = dataset.label_set.palette()
    rows = []
    for index in np.unique(np.linspace(0, len(dataset) - 1, SAMPLES).round().astype(int)).tolist():
        try:
            sample = dataset[index]
        except DatasetError:
            continue
        labels = colorize(sample.labels, palette)
        both = overlay(sample.image, sample.labels, palette)
        rows.append([(sample.name, sample.image), ("labels", labels), ("overlay", both)])
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, sheet(rows, dataset.label_set))
