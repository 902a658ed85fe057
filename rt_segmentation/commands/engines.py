"""`rt_seg export`, `tune` and `cache`: engines built and timed before they are needed, and what is kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.bags.choosing import choose_images
from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import to_frame
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.commands.progress import progress
from rt_segmentation.data.dataset import levels_of
from rt_segmentation.data.names import spread
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.levels import AUTO, Levels
from rt_segmentation.inference import cache
from rt_segmentation.inference.engines import Engine, EngineError, build_engine, calibrate, installed
from rt_segmentation.inference.parity import images_in, read_frame, resize_frame
from rt_segmentation.inference.tuning import Timing, remember
from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.provenance import machine


def export(arguments: argparse.Namespace) -> None:
    """Build a model's engine for one size into the cache, and write the graph as ONNX if a folder is named.

    Raises:
        EngineError, ModelError: it cannot be built or kept; the message says why.
        DatasetError, ParityError, BagError: the frames for calibration are not as they should be.
    """
    from rt_segmentation.inference.engines.export import LABELS_ONLY, WEIGHTS, WITH_CONFIDENCE, graph_entry

    manifest = find_model(arguments.model)
    width, height = arguments.width or manifest.width, arguments.height or manifest.height
    if arguments.batch < 1:
        raise EngineError(f"--batch is {arguments.batch}; it must be 1 or more")
    engine = _build(manifest, arguments, width, height)
    engine.prepare(arguments.batch, height, width)
    print(
        f"{manifest.name} {width}x{height}, batch {arguments.batch}:"
        f" engine {engine.name} in {engine.precision} on {engine.device}"
    )
    if arguments.out is not None:
        entry = graph_entry(manifest, arguments.batch, height, width)
        arguments.out.mkdir(parents=True, exist_ok=True)
        # The graph names its weights by their file's name: both keep theirs.
        for name in (WITH_CONFIDENCE, LABELS_ONLY, WEIGHTS):
            (arguments.out / name).write_bytes(entry.read(name))
        print(f"{arguments.out / WITH_CONFIDENCE}: uint8 images (N, H, W, 3) RGB to labels and confidence")
    _require_kept("what was built")


def _require_kept(what: str) -> None:
    if not cache.kept():
        raise EngineError(
            f"{what} could not be kept in {cache.cache_root()}; make room there, or name another folder in"
            " XDG_CACHE_HOME"
        )


def _build(manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int) -> Engine:
    """The engine; with frames for calibration, one in int8 that is calibrated on them."""
    if not (arguments.calibrate or arguments.calibrate_images or arguments.calibrate_bag):
        return build_engine(manifest, arguments.engine, arguments.precision)
    if arguments.precision not in ("auto", "int8"):
        raise EngineError(
            f"frames for calibration are for int8, and --precision is {arguments.precision}: take int8,"
            " or leave the frames out"
        )
    write_ranges(manifest, arguments, width, height)
    return build_engine(manifest, arguments.engine, "int8")


def write_ranges(manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int) -> None:
    """Have the engine find its int8 ranges on the frames that are asked for."""

    def frames(height: int, width: int) -> tuple[list[np.ndarray], str]:
        return _calibration_frames(manifest, arguments, width, height)

    print(calibrate(manifest, arguments.engine, frames, arguments.batch, height, width))


def _calibration_frames(
    manifest: ModelManifest, arguments: argparse.Namespace, width: int, height: int
) -> tuple[list[np.ndarray], str]:
    """Frames uint8 (height, width, 3) RGB, and where they come from, in words."""
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
    images = _dataset_images(manifest, arguments.calibrate, arguments.data_root, count)
    return [resize_frame(image, height, width) for image in images], f"{arguments.calibrate} train"


def bag_frames(
    path: Path, topic: str | None, count: int, height: int, width: int, image_bits: str = AUTO
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


def _dataset_images(manifest: ModelManifest, name: str, root: Path | None, count: int) -> list[np.ndarray]:
    from rt_segmentation.data.registry import open_dataset, options_for

    dataset = open_dataset(name, root, "train", options_for(name, manifest.labels()), complete=False)
    indices = spread(range(len(dataset)), count)
    return [dataset[index].image for index in progress(indices, len(indices))]


def tune(arguments: argparse.Namespace) -> None:
    """Time all engines and precisions that pass the gate in interleaved rounds, and remember the order.

    Raises:
        EngineError: none works here, or what was measured could not be kept.
        ModelError: there is no such model.
    """
    from rt_segmentation.benchmark.engines import Group, time_group

    manifest = find_model(arguments.model)
    sizes = [parse_size(text) for text in arguments.size] or [(manifest.width, manifest.height)]
    found = []
    for width, height in sizes:
        group = Group(manifest.network, str(manifest.path), width, height, installed())
        rows = time_group(group, arguments.seconds, lambda line: print(line, file=sys.stderr))
        timings = [Timing(r.engine, r.precision, r.median_ms) for r in rows if r.median_ms is not None]
        if not timings:
            raise EngineError("no engine works here: " + "; ".join(row.problem for row in rows))
        record = remember(manifest, height, width, timings)
        refused = {f"{row.engine} {row.precision}": row.problem for row in rows if row.problem}
        found.append(
            {"model": manifest.name, "width": width, "height": height, **asdict(record), "refused": refused}
        )
        if not arguments.json:
            print(f"{manifest.name} {width}x{height} on {machine()}")
            for timing in record.timings:
                print(f"  {timing.engine:<12} {timing.precision:<6} {timing.median_ms:8.1f} ms")
            for name, problem in refused.items():
                print(f"  {name:<19} refused: {problem}")
    if arguments.json:
        print(json.dumps(found, indent=2))
    _require_kept("what was measured")


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) [px] of 'WIDTHxHEIGHT'.

    Raises:
        EngineError: it is not of that form.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise EngineError(f"size '{text}' should be WIDTHxHEIGHT, as 640x360")
    return int(width), int(height)


def run_cache(arguments: argparse.Namespace) -> None:
    """List what the cache holds, or delete it."""
    root = cache.cache_root()
    if arguments.action == "clear":
        print(f"{root}: {cache.clear() / 1e6:.1f} MB deleted")
        return
    rows = [describe(entry) for entry in cache.entries()]
    if arguments.json:
        print(json.dumps({"path": str(root), "entries": rows}, indent=2))
        return
    if not rows:
        print(f"{root}: empty; engines are built at the first frames, or by `rt_seg export`")
    for row in rows:
        size = f"{row['width']}x{row['height']}" + (f", batch {row['batch']}" if row["batch"] else "")
        what = " ".join(part for part in (row["kind"], row["precision"]) if part)
        line = f"{row['model']:<20} {size:<20} {what:<18} {row['size_bytes'] / 1e6:8.1f} MB"
        print(line + "".join(f", {note}" for note in _notes(row)))


def describe(entry: cache.CacheEntry) -> dict[str, Any]:
    """An entry as JSON's types; the keys are always the same."""
    identity = entry.key["identity"]
    return {
        "folder": str(Path(entry.folder)),
        "kind": entry.key["kind"],
        **{name: identity.get(name) for name in ("model", "width", "height", "batch", "precision", "device")},
        **{name: entry.data.get(name) for name in ("agreement", "threshold", "passed", "timings", "date")},
        "size_bytes": entry.size_bytes,
        "made_with": dict(entry.key["made_with"]),
    }


def _notes(row: dict[str, Any]) -> Iterator[str]:
    if row["agreement"] is not None:
        verdict = "passed" if row["passed"] else f"refused, {row['threshold']:.1%} is needed"
        yield f"{row['agreement']:.2%} of torch's labels: {verdict}"
    if row["timings"]:
        best = row["timings"][0]
        yield f"fastest: {best['engine']} {best['precision']}, {best['median_ms']:.1f} ms ({row['date']})"
