"""`rt_seg submit cityscapes`: the label images that the Cityscapes evaluation server takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import add_engine
from rt_segmentation.commands.outputs import check_outputs
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path, write_atomically

if TYPE_CHECKING:
    from rt_segmentation.data.cityscapes import Cityscapes
    from rt_segmentation.inference.segmenter import Segmenter

SIZE = (2048, 1024)
"""(width, height) of the images that the server compares [px]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("benchmark", choices=("cityscapes",))
    parser.add_argument("--model", required=True, help="model: a name, or the path of a manifest")
    parser.add_argument("--data-root", type=user_path, required=True, help="folder of the data set")
    parser.add_argument("--split", default="test", help="split of the data set (default test)")
    parser.add_argument("--out", type=user_path, required=True, help="folder for the label images")
    add_engine(parser)


def main(arguments: argparse.Namespace) -> None:
    """Segment a split and write a PNG a frame.

    Raises:
        ModelError, EngineError: the model cannot be run.
        DatasetError: the data are not as they should be, or the model's classes are not Cityscapes'.
        OptionError, OSError: the folder, or a file, cannot be written.
    """
    from rt_segmentation.data.cityscapes import Cityscapes
    from rt_segmentation.inference.segmenter import Segmenter
    from rt_segmentation.models import find_model

    check_outputs(arguments, folders=("out",))
    manifest = find_model(arguments.model)
    # The labels' meaning is the model's affair; the data set gives the images alone.
    dataset = Cityscapes(arguments.data_root, arguments.split)
    segmenter = Segmenter.build(manifest, arguments.engine, arguments.precision)
    count = write_submission(segmenter, dataset, arguments.out)
    print(f"{count} label images in {arguments.out}; zip the folder and upload it")


def write_submission(segmenter: Segmenter, dataset: Cityscapes, folder: Path) -> int:
    """Write CITY_SEQUENCE_FRAME_pred.png for each image: label ids (0 to 33), 8-bit gray, 2048x1024.

    Returns:
        How many were written.

    Raises:
        DatasetError: the model's classes are not Cityscapes' labels, or an image is not 2048x1024.
        OSError: a file cannot be written.
    """
    from rt_segmentation.data.cityscapes import label_ids_by_class
    from rt_segmentation.data.dataset import DatasetError, read_rgb
    from rt_segmentation.evaluation.dataset import segment_image
    from rt_segmentation.imaging.codec import encode_png

    label_ids = label_ids_by_class(segmenter.config.label_set)
    folder.mkdir(parents=True, exist_ok=True)
    for pair in progress(dataset.pairs, len(dataset)):
        image = read_rgb(pair.image)
        if (image.shape[1], image.shape[0]) != SIZE:
            raise DatasetError(
                f"{pair.image} is {image.shape[1]}x{image.shape[0]};"
                f" Cityscapes' images are {SIZE[0]}x{SIZE[1]}"
            )
        path = folder / f"{pair.name}_pred.png"
        write_atomically(path, encode_png(label_ids[segment_image(segmenter, image)]))
    return len(dataset)
