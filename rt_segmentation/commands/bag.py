"""`rt_seg bag`: make a bag of images, look into bags, and take frames out of them."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from array import array
from pathlib import Path
from typing import Any

from rt_segmentation.bags.errors import BagError
from rt_segmentation.commands import bag_sample
from rt_segmentation.commands.options import add_image_bits, say
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path

RATE_HZ = 10.0
STREET_FRAMES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    make = actions.add_parser("make", help="a bag of a folder, a video or the synthetic street")
    make.add_argument("out", type=user_path, help="the bag's folder")
    make.add_argument("--images", required=True, help="a folder of images, a video, or 'street'")
    make.add_argument("--labels", default="", help="folder of label PNGs with the images' names")
    make.add_argument("--frames", type=int, help="at most (default: all; 100 of the street)")
    make.add_argument("--rate", type=float, help="of the images [Hz] (default: the video's, else 10)")
    make.add_argument("--topic", default="/camera/image", help="of the images (default /camera/image)")
    make.add_argument("--label-topic", default="/camera/label", help="of labels (default /camera/label)")
    make.add_argument("--compressed", choices=("jpeg", "png"), help="CompressedImage on TOPIC/compressed")
    make.add_argument("--start-time", type=float, help="of the first image, since the epoch [s] (now)")
    make.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="(default mcap)")
    make.add_argument("--seed", type=int, default=7, help="of the street (default 7)")
    make.add_argument("--overwrite", action="store_true", help="replace a bag that is there")
    add_image_bits(make)

    info = actions.add_parser("info", help="topics, rates and damage of bags, read to their ends")
    info.add_argument(
        "bags", nargs="+", type=user_path, metavar="BAG", help="rosbag2 folder, .mcap, .db3 or .bag"
    )
    info.add_argument("--json", action="store_true", help="print JSON")

    bag_sample.add_arguments(
        actions.add_parser("sample", help="the frames that are worth labelling, as image files")
    )


def main(arguments: argparse.Namespace) -> None:
    """Run an action of `bag` and print its result.

    Raises:
        BagError, SourceError: a bag, or what one is made of, cannot be read or written; of `info`, after the
            other bags were printed, and of `make`, after the other images were written.
    """
    if arguments.action == "make":
        _make(arguments)
        return
    if arguments.action == "sample":
        bag_sample.main(arguments)
        return
    described, failures = [], []
    for path in arguments.bags:
        try:
            described.append(describe(path))
        except BagError as error:
            failures.append(str(error))
    if arguments.json:
        print(json.dumps({"bags": described}, indent=2, ensure_ascii=False))
    elif described:
        print("\n\n".join("\n".join(_lines(bag)) for bag in described))
    if failures:
        raise BagError("\n".join(failures))


def describe(path: Path) -> dict[str, Any]:
    """What is in a bag, read through to its end, as JSON's types.

    Raises:
        BagError: there is none, or nothing in it can be read.
    """
    from rt_segmentation.bags.rates import rate_hz
    from rt_segmentation.bags.reading import BagReader
    from rt_segmentation.bags.splits import find_splits
    from rt_segmentation.bags.storage import compression

    splits = find_splits(path)
    with BagReader(path) as reader:
        # Doubles: damaged files have times of more than 63 bits.
        times = {topic.name: array("d") for topic in reader.topics}
        for name, recorded_ns in reader.times(times):
            times[name].append(recorded_ns)
        duration_s = (reader.end_ns - reader.start_ns) / 1e9
        is_empty = not any(times.values()) and not any(topic.count for topic in reader.topics)
        return {
            "path": str(path),
            "files": [file.name for file in splits.files],
            "bytes": sum(file.stat().st_size for file in splits.files if file.exists()),
            "compression": compression(splits),
            "start_ns": None if is_empty else reader.start_ns,
            "duration_s": duration_s,
            "topics": [
                {
                    "name": topic.name,
                    "type": topic.type,
                    "promised": topic.count if reader.message_count is not None else None,
                    "messages": len(times[topic.name]),
                    "rate_hz": rate_hz(times[topic.name]),
                }
                for topic in reader.topics
            ],
            "notes": reader.notes,
            "damage": reader.damage,
            "lost": reader.lost,
        }


def _lines(bag: dict[str, Any]) -> list[str]:
    recorded = "nothing: the bag is empty"
    if bag["start_ns"] is not None:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(bag["start_ns"] / 1e9))
        recorded = f"{began} UTC, {bag['duration_s']:.3f} s"
    lines = [
        f"bag       {bag['path']}",
        f"files     {len(bag['files'])}, {bag['bytes'] / 1e6:.1f} MB, compression: {bag['compression']}",
        f"recorded  {recorded}",
    ]
    width = max((len(topic["name"]) for topic in bag["topics"]), default=0)
    for topic in bag["topics"]:
        rate = "" if topic["rate_hz"] is None else f"  {topic['rate_hz']:.2f} Hz"
        lines.append(
            f"topic     {topic['name']:{width}}  {topic['type']}  {topic['messages']} messages{rate}"
        )
    lines += [f"note      {note}" for note in bag["notes"]]
    lines.append(f"damage    {bag['damage'] or 'none'}")
    return lines


def _make(arguments: argparse.Namespace) -> None:
    from rt_segmentation.bags.making import MAX_STAMP_S, make_bag
    from rt_segmentation.bags.writing import BagWriter
    from rt_segmentation.data.sources import FolderSource, StreetSource, open_source

    rate_hz = _rate_hz(arguments.images) if arguments.rate is None else arguments.rate
    if not 0 < rate_hz < math.inf:
        raise BagError(f"--rate is {rate_hz:g}, it must be above 0 [Hz]")
    if arguments.frames is not None and arguments.frames < 1:
        raise BagError(f"--frames is {arguments.frames}, it must be 1 or more")
    if arguments.start_time is not None and not 0 <= arguments.start_time < MAX_STAMP_S:
        raise BagError(
            f"--start-time is {arguments.start_time:g}, it must be from 0 to below {MAX_STAMP_S} [s]"
        )
    source = open_source(
        arguments.images,
        arguments.labels,
        seed=arguments.seed,
        rate_hz=rate_hz,
        image_bits=arguments.image_bits,
        on_warning=say,
    )
    frames = arguments.frames
    if frames is None and isinstance(source, StreetSource):
        # The street has no end.
        frames = STREET_FRAMES
    start_s = time.time() if arguments.start_time is None else arguments.start_time
    expected = frames or (len(source) if isinstance(source, FolderSource) else 0)
    first = itertools.islice(source, frames and min(frames, sys.maxsize))
    images = progress(first, expected) if expected else first
    with BagWriter(arguments.out, overwrite=arguments.overwrite, storage=arguments.storage) as writer:
        try:
            count = make_bag(
                writer,
                images,
                arguments.topic,
                arguments.label_topic,
                rate_hz,
                round(start_s * 1e9),
                arguments.compressed,
            )
        except KeyboardInterrupt:
            say(f"what {arguments.out} has so far can be read")
            raise
    skipped = source.skipped if isinstance(source, FolderSource) else 0
    print(f"{arguments.out}: {count} images at {rate_hz:g} Hz, {skipped} skipped, from {source.text}")
    if isinstance(source, FolderSource):
        source.check_all_read()


def _rate_hz(images: str) -> float:
    """A video's own rate, or else `RATE_HZ`."""
    import cv2

    from rt_segmentation.imaging.files import path_for_opencv

    path = user_path(images)
    if not path.is_file():
        return RATE_HZ
    with path_for_opencv(path) as name:
        capture = cv2.VideoCapture(name)
        try:
            return float(capture.get(cv2.CAP_PROP_FPS)) or RATE_HZ
        finally:
            capture.release()
