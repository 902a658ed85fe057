"""`rt_seg models import` and `check` for ONNX files: options, and what is printed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import OptionError, say
from rt_segmentation.commands.outputs import check_output
from rt_segmentation.files import user_path

if TYPE_CHECKING:
    import numpy as np

    from rt_segmentation.labels import LabelSet
    from rt_segmentation.models import ModelManifest

_CHOICES = {
    "order": (("rgb", "bgr"), "of the channels that it takes (default: rgb, or found by --golden)"),
    "layout": (("nchw", "nhwc"), "of its input (default: what the file says)"),
    "output": (("logits", "probabilities", "labels"), "what its output has (default: what the file says)"),
}
_COLUMN_PX = 320


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """Add what only an ONNX file needs."""
    group = parser.add_argument_group("of an .onnx file")
    for name, (choices, text) in _CHOICES.items():
        group.add_argument(f"--{name}", choices=choices, help=text)
    group.add_argument("--output-name", help="which output, where several may have the labels")
    group.add_argument(
        "--scale", type=float, help="by what bytes are multiplied before mean and std (default 1/255)"
    )
    group.add_argument(
        "--align-corners", action="store_true", help="small logits are enlarged with their corners aligned"
    )
    known = group.add_mutually_exclusive_group()
    known.add_argument(
        "--golden", type=user_path, metavar="NPZ", help="images and labels that its own pipeline gave them"
    )
    known.add_argument(
        "--reference", type=user_path, metavar="DIR", help="the same as files: DIR/images and DIR/labels"
    )


def refuse_options(arguments: argparse.Namespace) -> None:
    """Check that a checkpoint that is not ONNX got none of these options.

    Raises:
        OptionError: it did.
    """
    for name in (*_CHOICES, "output_name", "scale", "align_corners", "golden", "reference"):
        if getattr(arguments, name):
            raise OptionError(
                f"--{name.replace('_', '-')} is for .onnx files, {arguments.checkpoint} is none"
            )


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.add_argument("model", help="the path of a manifest of an ONNX graph")
    parser.add_argument("images", type=user_path, help="a folder of images, or one image")
    parser.add_argument("--out", type=user_path, required=True, help="the picture, .png or .jpg")
    parser.add_argument("--count", type=int, default=2, help="images, evenly spread (default 2)")


def import_model(arguments: argparse.Namespace) -> ModelManifest:
    """Make a model of an ONNX file; what was told from it is said on stderr.

    Raises:
        ModelError, LabelSetError, OptionError, DatasetError: the message says what is wrong or missing.
    """
    from rt_segmentation.inference.foreign.importing import Wishes, import_onnx
    from rt_segmentation.inference.foreign.inspection import read_onnx

    if arguments.labels is None:
        raise OptionError(
            "no ONNX file names its classes: give --label-set, a name or a YAML file with its classes"
        )
    if (arguments.width is None) != (arguments.height is None):
        raise OptionError("--width and --height belong together: give both")
    pairs, where = _golden(arguments)
    wishes = Wishes(
        label_set=arguments.labels,
        size=None if arguments.width is None else (arguments.width, arguments.height),
        mean=None if arguments.mean is None else tuple(arguments.mean),
        std=None if arguments.std is None else tuple(arguments.std),
        scale=arguments.scale,
        output=arguments.output_name,
        order=arguments.order,
        layout=arguments.layout,
        gives=arguments.output,
        align_corners=arguments.align_corners,
        license=arguments.license or "unknown",
    )
    foreign = read_onnx(arguments.checkpoint)
    imported = import_onnx(foreign, arguments.name, arguments.out, wishes, pairs, where)
    for note in imported.notes:
        say(note)
    return imported.manifest


def _golden(arguments: argparse.Namespace) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Images with the labels that the file's own pipeline gave them, and where they are from."""
    from rt_segmentation.inference.foreign import golden
    from rt_segmentation.labels import load_label_set

    if arguments.golden is not None:
        return list(golden.read_arrays(arguments.golden)), f"golden file {arguments.golden}"
    if arguments.reference is None:
        return [], ""
    from rt_segmentation.data.folder import Folder
    from rt_segmentation.files import spread

    folder = Folder(arguments.reference, "", load_label_set(arguments.labels))
    samples = [folder[index] for index in spread(range(len(folder)), golden.KEPT)]
    return [(sample.image, sample.labels) for sample in samples], f"reference {arguments.reference}"


def check(arguments: argparse.Namespace) -> None:
    """Show what a model makes of images with each usual way to normalise them.

    Raises:
        ModelError: it is no ONNX graph, or cannot be run.
        ParityError: there are no such images.
        OptionError, OSError: the picture cannot be written.
    """
    from rt_segmentation.files import spread
    from rt_segmentation.imaging.errors import ImageError
    from rt_segmentation.imaging.files import check_picture, read_rgb, unusable
    from rt_segmentation.imaging.pictures import sheet, write_picture
    from rt_segmentation.imaging.placement import width_for
    from rt_segmentation.imaging.render import overlay
    from rt_segmentation.inference.foreign.plausible import looks
    from rt_segmentation.inference.parity import ParityError, images_in, resize_frame
    from rt_segmentation.models import ModelError, find_model

    if arguments.count < 1:
        raise OptionError(f"--count is {arguments.count}; it must be 1 or more")
    check_output("out", arguments.out, check_picture)
    manifest = find_model(arguments.model)
    if manifest.onnx is None:
        raise ModelError(
            f"model '{manifest.name}' is {manifest.network}, whose normalisation is known; `check` is for"
            " models of ONNX files"
        )
    files = [arguments.images] if arguments.images.is_file() else images_in(arguments.images)
    images = []
    for path in spread(files, arguments.count):
        try:
            image = read_rgb(path)
        except ImageError as error:
            raise ParityError(unusable(path, error)) from error
        height, width = image.shape[:2]
        size = manifest.fixed_size or (width_for((width, height), manifest.height), manifest.height)
        images.append(resize_frame(image, size[1], size[0]))
    labels: LabelSet = manifest.labels()
    rows = [[(path.name, image)] for path, image in zip(spread(files, arguments.count), images)]
    print(f"{'NORMALISATION':<18}  CONFIDENCE  SMOOTHNESS")
    for look in looks(manifest, images):
        sure = "-" if look.confidence is None else f"{look.confidence:.3f}"
        name = look.preprocessing.describe()
        print(f"{name:<18}  {sure:>10}  {look.smoothness:>10.4f}", flush=True)
        for row, image, ids in zip(rows, images, look.labels):
            text = f"{name}: {sure}, {look.smoothness:.3f}"
            row.append((text, overlay(image, ids, labels.palette())))
    write_picture(arguments.out, sheet(rows, labels, _COLUMN_PX))
    print(f"{arguments.out}: the right one has objects with clean edges, high confidence and smoothness")
