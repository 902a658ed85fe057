"""Bags of all kinds, whole ones: 40 images of noise on /cam at 10 Hz, four of them a chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from rt_segmentation.bags.frames import IMAGE, to_frame
from rt_segmentation.bags.reading import BagReader

ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY)
TOPIC = "/cam"
COUNT, CHUNK = 40, 4
BEGIN_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000
HEIGHT, WIDTH = 64, 96
# Of 16 values each, so that a compressor finds something to do.
PIXELS = np.random.default_rng(0).integers(0, 16, (COUNT, HEIGHT, WIDTH, 3), np.uint8)


def stamp(number: int) -> int:
    """Of an image, and its recorded time [ns]."""
    return BEGIN_NS + number * PERIOD_NS


def image(types: Any, number: int) -> Any:
    """The message with that number, of ROS 1 or ROS 2 types."""
    time = types.types["builtin_interfaces/msg/Time"](*divmod(stamp(number), 10**9))
    sequence = {"seq": number} if types is ROS1 else {}
    header = types.types["std_msgs/msg/Header"](stamp=time, frame_id="camera", **sequence)
    return types.types[IMAGE](
        header=header,
        height=HEIGHT,
        width=WIDTH,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * WIDTH,
        data=PIXELS[number].reshape(-1),
    )


def rosbag2(
    path: Path,
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    order: Sequence[int] = range(COUNT),
    change: Callable[[int, bytes], bytes] = lambda _, data: data,
) -> Path:
    """A folder of ROS 2 with one storage file; `change` is given number and serialised message."""
    writer = Writer(path, version=8, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=ROS2)
        for written, number in enumerate(order, 1):
            data = change(number, bytes(ROS2.serialize_cdr(image(ROS2, number), IMAGE)))
            writer.write(connection, stamp(number), data)
            if storage == StoragePlugin.MCAP and written % CHUNK == 0:
                writer.storage.close_chunk()
    return path


def ros1_bag(path: Path, compression: Ros1Writer.CompressionFormat | None = None) -> Path:
    """A bag of ROS 1."""
    writer = Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=ROS1)
        for number in range(COUNT):
            writer.write(connection, stamp(number), ROS1.serialize_ros1(image(ROS1, number), IMAGE))
            if (number + 1) % CHUNK == 0:
                writer.write_chunk(writer.chunks[-1])
    return path


def storage_file(folder: Path) -> Path:
    """The one file of a folder that is not its metadata."""
    (file,) = (file for file in folder.iterdir() if file.name != "metadata.yaml")
    return file


def read(path: Path) -> tuple[list[int], BagReader]:
    """Numbers of the images of a bag in the order they come, each compared with what was written."""
    with BagReader(path) as reader:
        numbers = []
        for message in reader.messages([TOPIC]):
            frame = to_frame(message)
            number = (message.recorded_ns - BEGIN_NS) // PERIOD_NS
            assert frame.stamp_ns == message.recorded_ns and frame.frame_id == "camera"
            assert np.array_equal(frame.planes[0], PIXELS[number])
            numbers.append(number)
        return numbers, reader
