"""`rt_seg export`: an engine built before it is needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rt_segmentation.bags.errors import BagError
from rt_segmentation.commands.options import (
    OptionError,
    add_data_options,
    add_engine,
    add_image_bits,
    at_least,
    check_cache,
    parse_options,
    require_kept,
)
from rt_segmentation.commands.outputs import check_outputs
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import replacing_together, spread, user_path, write_atomically

if TYPE_CHECKING:
    import numpy as np

    from rt_segmentation.inference.engines import Engine
    from rt_segmentation.models import ModelManifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--model", required=True, help="model: a name, or the path of a manifest")
    parser.add_argument(
        "--width", type=int, help="width of the network's input [px] (default: the manifest's)"
    )
    parser.add_argument(
        "--height", type=int, help="height of the network's input [px] (default: the manifest's)"
    )
    parser.add_argument("--batch", type=int, default=1, help="batch size (default 1)")
    add_engine(parser)
    parser.add_argument(
        "--out",
        type=user_path,
        help="write to this folder the ONNX graphs network.onnx and labels.onnx (without confidence), and"
        " weights.bin, which both need",
    )
    calibration = parser.add_mutually_exclusive_group()
    calibration.add_argument(
        "--calibrate", metavar="DATASET", help="measure int8 ranges on a data set's train split first"
    )
    parser.add_argument("--data-root", type=user_path, help="folder of the data set")
    add_data_options(parser)
    calibration.add_argument(
        "--calibrate-images",
        type=user_path,
        metavar="FOLDER",
        help="measure int8 ranges on a folder of images first",
    )
    calibration.add_argument(
        "--calibrate-bag", type=user_path, metavar="BAG", help="measure int8 ranges on a bag's images first"
    )
    parser.add_argument(
        "--image-topic",
        metavar="T",
        help="image topic of the bag (default: the only image topic that has neither labels nor depth)",
    )
    parser.add_argument(
        "--calibrate-frames",
        type=at_least(1, int),
        default=100,
        help="number of frames to measure ranges on, evenly spaced (default 100)",
    )
    add_image_bits(parser)


def main(arguments: argparse.Namespace) -> None:
    """Build a model's engine for one size into the cache, and write the graph as ONNX if a folder is named.

    Raises:
        EngineError, ModelError: it cannot be built or kept; the message says why.
        DatasetError, ParityError, BagError: the frames for calibration are not as they should be.
        OptionError: the folder cannot be written, or options are given for no data set.
    """
    from rt_segmentation.inference.engines import EngineError
    from rt_segmentation.inference.engines.export import LABELS_ONLY, WEIGHTS, WITH_CONFIDENCE, graph_entry
    from rt_segmentation.models import find_model, size_problem

    check_outputs(arguments, folders=("out",))
    manifest = find_model(arguments.model)
    width = manifest.width if arguments.width is None else arguments.width
    height = manifest.height if arguments.height is None else arguments.height
    if problem := size_problem(width, height):
        raise EngineError(problem)
    if arguments.option and not arguments.calibrate:
        raise OptionError("--option is of the data set of --calibrate, which is not given")
    if arguments.batch < 1:
        raise EngineError(f"--batch is {arguments.batch}; it must be 1 or more")
    # What is asked for beside the cache is written in any case.
    if arguments.out is None and not _is_built(manifest, arguments, width, height):
        check_cache("what is built")
    with _keeping_good_ranges(manifest):
        engine = _build(manifest, arguments, width, height)
        engine.prepare(arguments.batch, height, width)
    print(
        f"{manifest.name} {width}x{height}, batch {arguments.batch}:"
        f" engine {engine.name} in {engine.precision} on {engine.device}"
    )
    if arguments.out is not None:
        entry = graph_entry(manifest, arguments.batch, height, width)
        arguments.out.mkdir(parents=True, exist_ok=True)
        # The graph names its weights by their file's name: both keep theirs, and are replaced together.
        names = (WITH_CONFIDENCE, LABELS_ONLY, WEIGHTS)
        with replacing_together({arguments.out / name: entry.read(name) for name in names}):
            pass
        gives = "labels and confidence" if manifest.has_confidence else "labels"
        print(f"{arguments.out / WITH_CONFIDENCE}: uint8 images (N, H, W, 3) RGB to {gives}")
        print(f"{arguments.out / LABELS_ONLY}: the same to labels alone; both need {WEIGHTS}")
    require_kept("what was built")


def _is_built(manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int) -> bool:
    """Whether a cache that is only read may have it already: a verdict of this size, of whatever versions."""
    from rt_segmentation.inference import cache
    from rt_segmentation.inference.engines.choosing import ENGINES
    from rt_segmentation.inference.network import model_identity

    if arguments.engine == "torch":
        # On a CPU it keeps nothing.
        return True
    asked = {**model_identity(manifest), "batch": arguments.batch, "height": height, "width": width}
    if arguments.precision != "auto":
        asked["precision"] = arguments.precision
    names = ENGINES if arguments.engine == "auto" else (arguments.engine,)
    return any(cache.holds(name, asked, {}) for name in names)


def _build(manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int) -> Engine:
    """The engine; with frames for calibration, one in int8 that is calibrated on them."""
    from rt_segmentation.inference.engines import EngineError, build_engine

    if not (arguments.calibrate or arguments.calibrate_images or arguments.calibrate_bag):
        return build_engine(manifest, arguments.engine, arguments.precision)
    if arguments.precision not in ("auto", "int8"):
        raise EngineError(
            f"frames for calibration are for int8, and --precision is {arguments.precision}: take int8,"
            " or leave the frames out"
        )
    write_ranges(manifest, arguments, width, height)
    return build_engine(manifest, arguments.engine, "int8")


@contextmanager
def _keeping_good_ranges(manifest: ModelManifest) -> Iterator[None]:
    """Ranges with which an engine is refused in this block do not take the place of earlier ones.

    As of black frames: every node that runs the model in int8 would be without it.
    """
    from rt_segmentation.inference.engines import EngineError
    from rt_segmentation.inference.engines.openvino_int8.ranges import load_ranges, ranges_path

    path, before = ranges_path(manifest), None
    # Those that are missing, damaged or of other weights are no loss.
    with suppress(EngineError):
        load_ranges(manifest)
        before = path.read_bytes()
    try:
        yield
    except EngineError as error:
        if before is None or path.read_bytes() == before:
            raise
        write_atomically(path, before)
        raise EngineError(f"{error}; the ranges in {path} are the earlier ones again") from error


def write_ranges(manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int) -> None:
    """Have the engine find its int8 ranges on the frames that are asked for."""
    from rt_segmentation.inference.engines import calibrate

    def frames(height: int, width: int) -> tuple[list[np.ndarray], str]:
        return _calibration_frames(manifest, arguments, width, height)

    print(calibrate(manifest, arguments.engine, frames, arguments.batch, height, width))


def _calibration_frames(
    manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int
) -> tuple[list[np.ndarray], str]:
    """Frames uint8 (height, width, 3) RGB, and where they come from, in words."""
    from rt_segmentation.data.dataset import levels_of
    from rt_segmentation.inference.parity import images_in, read_frame, resize_frame

    count = arguments.calibrate_frames
    if arguments.calibrate_images is not None:
        files = spread(images_in(arguments.calibrate_images), count)
        levels = levels_of(files, arguments.image_bits)
        found = [read_frame(path, height, width, levels) for path in progress(files, len(files))]
        return found, "a folder of images"
    if arguments.calibrate_bag is not None:
        found = bag_frames(
            arguments.calibrate_bag, arguments.image_topic, count, height, width, arguments.image_bits
        )
        return found, "a bag"
    images = _dataset_images(manifest, arguments)
    return [resize_frame(image, height, width) for image in images], f"{arguments.calibrate} train"


def bag_frames(
    path: Path, topic: str | None, count: int, height: int, width: int, image_bits: str = "auto"
) -> list[np.ndarray]:
    """Some of a bag's images, evenly spread; no others are decoded, and for a damaged one comes the next.

    Args:
        path: of the bag.
        topic: of the images; None is for the choice of `choose_images`, told on stderr.
        count: how many, less where the bag has less.
        height: of the result [px].
        width: of the result [px].
        image_bits: how many bits 16-bit images use, or 'auto'.

    Returns:
        uint8 (height, width, 3) RGB.

    Raises:
        BagError: the bag cannot be read, has no such topic or several, or none of its images can be decoded.
    """
    from rt_segmentation.bags.choosing import choose_images
    from rt_segmentation.bags.frames import to_frame
    from rt_segmentation.bags.reading import BagReader
    from rt_segmentation.imaging.convert import to_rgb
    from rt_segmentation.imaging.errors import ImageError
    from rt_segmentation.imaging.levels import Levels

    frames: list[np.ndarray] = []
    problem, levels = "there are no messages", Levels(image_bits)
    with BagReader(path) as reader:
        chosen, note = choose_images(reader, topic)
        for sentence in (note, *reader.notes):
            if sentence:
                print(sentence, file=sys.stderr)
        wanted = set(spread(range(chosen.count), count))
        due = 0
        for number, message in enumerate(progress(reader.messages([chosen.name]), chosen.count)):
            due += number in wanted
            if not due:
                continue
            try:
                frames.append(to_rgb(levels(to_frame(message)), (width, height)))
            except ImageError as error:
                problem = str(error)
            else:
                due -= 1
    if not frames:
        raise BagError(f"bag {path}: no image of {chosen.name} can be decoded: {problem}")
    return frames


def _dataset_images(manifest: ModelManifest, arguments: argparse.Namespace) -> list[np.ndarray]:
    from rt_segmentation.data.registry import open_dataset, options_for
    from rt_segmentation.imaging.levels import AUTO

    name = arguments.calibrate
    options = {**options_for(name, manifest.labels()), **parse_options(arguments.option)}
    if arguments.image_bits != AUTO:
        options["image_bits"] = arguments.image_bits
    dataset = open_dataset(name, arguments.data_root, "train", options, complete=False)
    indices = spread(range(len(dataset)), arguments.calibrate_frames)
    return [dataset[index].image for index in progress(indices, len(indices))]
