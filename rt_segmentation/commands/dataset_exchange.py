"""`rt_seg dataset export`, `import` and `prelabel`: labels to annotation tools and back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rt_segmentation.commands.once_per_size import OncePerSize
from rt_segmentation.commands.options import (
    OptionError,
    add_data,
    add_engine,
    add_groups,
    add_image_bits,
    parse_options,
)
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path
from rt_segmentation.text import counted, printable

if TYPE_CHECKING:
    from rt_segmentation.api import Segmenter
    from rt_segmentation.data.exchange.frames import ExportOptions, LabelledFrame
    from rt_segmentation.data.sources import FolderSource

# As in `rt_segmentation.data.exchange`, which help texts need not import; a test compares.
FORMATS = ("cvat", "cvat-masks", "coco", "label-studio", "cityscapes", "png")


def add_arguments(actions: Any) -> None:
    """Add the actions and their options."""
    export = actions.add_parser("export", help="labels as a file for an annotation tool")
    export.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    add_data(export)
    _add_shapes(export)

    prelabel = actions.add_parser("prelabel", help="a model's masks as a start for annotators")
    prelabel.add_argument("images", type=user_path, metavar="IMAGES", help="a folder of images, or one")
    prelabel.add_argument("--model", default="enet", help="a model, or a manifest's path (default enet)")
    prelabel.add_argument("--format", choices=FORMATS, required=True, metavar="F", help=", ".join(FORMATS))
    prelabel.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="leave pixels of a lower probability unlabelled, 0 to 1 (default 0)",
    )
    _add_shapes(prelabel)
    add_engine(prelabel)
    add_groups(prelabel)
    add_image_bits(prelabel)

    back = actions.add_parser("import", help="an annotation tool's file as label images")
    back.add_argument("format", choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    back.add_argument("file", type=user_path, metavar="FILE", help="the tool's file, or unpacked folder")
    back.add_argument("--label-set", required=True, metavar="L", help="the classes: a name or a YAML file")
    back.add_argument("--out", type=user_path, required=True, help="a new folder, for labels and images")
    back.add_argument("--images", type=user_path, metavar="DIR", help="the images; they are copied to --out")
    back.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="LABEL=CLASS",
        help="a label that is called otherwise; 'unlabelled' is a class; may be repeated",
    )
    back.add_argument(
        "--unknown",
        choices=("refuse", "unlabelled"),
        default="refuse",
        help="what labels without a class are (default refuse)",
    )


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=user_path, required=True, help="the file; a folder of cityscapes and png"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--shapes",
        choices=("polygons", "masks"),
        default="polygons",
        help="of cvat and coco (default polygons, masks where a polygon cannot be exact)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="PX",
        help="how far polygons may be from the edge; fewer points to move (default 0: exact)",
    )
    parser.add_argument(
        "--image-prefix", default="", metavar="URL", help="before images' names, for label-studio"
    )


def export(arguments: argparse.Namespace) -> None:
    """Write a data set's labels.

    Raises:
        DatasetError: the data set, or a frame of it, cannot be read.
        ExchangeError, OSError: the file cannot be written.
    """
    from rt_segmentation.data.exchange.moving import check_target, export_labels, labels_of
    from rt_segmentation.data.registry import open_dataset

    options = _options(arguments, arguments.dataset)
    check_target(arguments.format, arguments.out, arguments.overwrite)
    dataset = open_dataset(
        arguments.dataset, arguments.data_root, arguments.split, parse_options(arguments.option)
    )
    frames = progress(labels_of(dataset), len(dataset))
    export_labels(arguments.format, arguments.out, frames, dataset.label_set, options)
    print(f"{printable(arguments.out)}: labels of {counted(len(dataset), 'image')}, {dataset.label_set.name}")


def prelabel(arguments: argparse.Namespace) -> None:
    """Write a model's masks of images.

    Raises:
        SourceError: there are no images; or some cannot be read or segmented, when all others are done.
        ModelError, EngineError, GroupsError: the model cannot be run.
        ExchangeError, OSError: the file cannot be written.
    """
    from rt_segmentation.api import Segmenter
    from rt_segmentation.data.exchange.moving import check_target, export_labels
    from rt_segmentation.data.sources import FolderSource

    if not 0 <= arguments.min_confidence <= 1:
        raise OptionError(f"--min-confidence is {arguments.min_confidence:g}; it must be from 0 to 1")
    options = _options(arguments, arguments.model)
    check_target(arguments.format, arguments.out, arguments.overwrite)
    source = FolderSource(arguments.images, image_bits=arguments.image_bits)
    segmenter = Segmenter(arguments.model, arguments.engine, arguments.precision, groups=arguments.groups)
    manifest = segmenter.config.manifest
    if arguments.min_confidence and not manifest.has_confidence:
        raise OptionError(
            f"--min-confidence needs a confidence, which model '{manifest.name}' has not: its ONNX graph"
            " gives labels alone"
        )
    share: list[float] = []
    frames = progress(_masks(segmenter, source, arguments.min_confidence, share), len(source))
    export_labels(arguments.format, arguments.out, frames, segmenter.label_set, options)
    left = (
        f"; {100 * sum(share) / len(share):.1f} % of the pixels are unlabelled, below"
        f" {arguments.min_confidence:g}"
        if arguments.min_confidence
        else ""
    )
    print(f"{printable(arguments.out)}: masks of {counted(len(share), 'image')} by {manifest.name}{left}")
    source.check_all_read()


def _masks(
    segmenter: Segmenter, source: FolderSource, min_confidence: float, share: list[float]
) -> Iterator[LabelledFrame]:
    """The masks, and the share of unlabelled pixels of each."""
    import numpy as np

    from rt_segmentation.data.exchange.frames import LabelledFrame
    from rt_segmentation.imaging.errors import ImageError
    from rt_segmentation.inference.engines import EngineError
    from rt_segmentation.labels import IGNORE_ID

    segmented = OncePerSize(segmenter)
    for image in source:
        try:
            result = segmented(image.rgb, min_confidence > 0)
        except (EngineError, ImageError) as error:
            source.skip(image, str(error))
            continue
        labels = result.labels
        if min_confidence:
            assert result.confidence is not None
            labels = np.where(result.confidence < min_confidence * 255, IGNORE_ID, labels).astype(np.uint8)
        share.append(float((labels == IGNORE_ID).mean()))
        yield LabelledFrame(image.name, labels)
    if not share:
        source.check_all_read()


def import_file(arguments: argparse.Namespace) -> None:
    """Write an annotation tool's file as label images.

    Raises:
        LabelSetError: the label set cannot be read.
        ExchangeError, OSError: the file cannot be read, or has unknown labels; or nothing can be written.
    """
    from rt_segmentation.data.exchange.frames import ClassNames
    from rt_segmentation.data.exchange.moving import import_labels
    from rt_segmentation.labels import load_label_set

    renamed = {}
    for text in arguments.map:
        label, equals, name = text.rpartition("=")
        if not equals or not label or not name:
            raise OptionError(f"--map '{text}' should be LABEL=CLASS, as sidewalk=pavement")
        renamed[label] = name
    names = ClassNames(
        load_label_set(arguments.label_set), renamed, accept_unknown=arguments.unknown == "unlabelled"
    )
    imported = import_labels(arguments.format, arguments.file, names, arguments.out, arguments.images)
    for label, times in names.unknown.most_common():
        print(f"note: label '{printable(label)}' is no class and is unlabelled, {times} times")
    for label in names.unused:
        print(f"note: --map '{printable(label)}={printable(renamed[label])}' changed nothing: no such label")
    print(
        f"{printable(arguments.out)}: labels of {counted(imported.frames, 'image')}"
        + (f", {imported.empty} of them without any label" if imported.empty else "")
        + ("" if arguments.images else "; put the images into its folder images, or give --images")
    )


def _options(arguments: argparse.Namespace, source: str) -> ExportOptions:
    from rt_segmentation.data.exchange.frames import ExportOptions

    if not 0 <= arguments.tolerance <= 100:
        raise OptionError(f"--tolerance is {arguments.tolerance:g}; it must be from 0 to 100 [px]")
    if arguments.tolerance and arguments.format not in ("cvat", "coco", "cityscapes"):
        raise OptionError(f"--tolerance is of polygons, and format {arguments.format} has none")
    return ExportOptions(
        arguments.shapes == "polygons", arguments.tolerance, arguments.image_prefix, str(source)
    )
