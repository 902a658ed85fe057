"""Whole bags of every format are read message by message."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from support.bag_factory import COUNT, TOPIC, read, ros1_bag, rosbag2, stamp, storage_file

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE, to_frame
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.topics import Topic, choose_topic
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.imaging.codec import encode_png

ALL = list(range(COUNT))
KINDS = [
    (storage, compression)
    for storage in StoragePlugin
    for compression in CompressionMode
    if (storage, compression) != (StoragePlugin.SQLITE3, CompressionMode.STORAGE)
]


@pytest.mark.parametrize(("storage", "compression"), KINDS)
def test_a_rosbag2_folder(tmp_path: Path, storage: StoragePlugin, compression: CompressionMode) -> None:
    bag = rosbag2(tmp_path / "bag", storage, compression)

    numbers, reader = read(bag)

    assert numbers == ALL
    assert reader.damage is None
    assert reader.lost == 0
    assert reader.message_count == COUNT
    assert reader.topics == (Topic(TOPIC, IMAGE, COUNT),)
    assert (reader.start_ns, reader.end_ns) == (stamp(0), stamp(COUNT - 1))


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.FILE])
def test_a_file_of_a_rosbag2_folder(
    tmp_path: Path, storage: StoragePlugin, compression: CompressionMode
) -> None:
    file = storage_file(rosbag2(tmp_path / "bag", storage, compression))
    alone = Path(shutil.copy(file, tmp_path))

    numbers, reader = read(alone)

    assert numbers == ALL
    assert (reader.damage, reader.lost, reader.message_count) == (None, None, None)
    assert reader.topics == (Topic(TOPIC, IMAGE, COUNT),)
    assert (reader.start_ns, reader.end_ns) == (stamp(0), stamp(COUNT - 1))


@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_a_bag_of_ros_1(tmp_path: Path, compression: Ros1Writer.CompressionFormat | None) -> None:
    bag = ros1_bag(tmp_path / "night.bag", compression)

    numbers, reader = read(bag)

    assert numbers == ALL
    assert reader.damage is None
    assert reader.topics == (Topic(TOPIC, IMAGE, COUNT),)
    assert (reader.start_ns, reader.end_ns) == (stamp(0), stamp(COUNT - 1))


def test_compressed_images(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    with BagWriter(tmp_path / "bag") as writer:
        types = writer.types.types
        header = types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](sec=3, nanosec=5), frame_id="left"
        )
        data = np.frombuffer(encode_png(rgb), np.uint8)
        message = types[COMPRESSED_IMAGE](header=header, format="png", data=data)
        writer.write("/left/compressed", COMPRESSED_IMAGE, 7, message)

    with BagReader(tmp_path / "bag") as reader:
        (found,) = reader.messages(["/left/compressed"])

    frame = to_frame(found)
    assert (found.recorded_ns, frame.stamp_ns, frame.frame_id) == (7, 3_000_000_005, "left")
    assert np.array_equal(frame.planes[0][..., ::-1], rgb)


@pytest.mark.parametrize("kind", ["mcap", "mcap without its index", "sqlite3", "ros1"])
def test_memory_does_not_grow_with_the_bag(tmp_path: Path, kind: str) -> None:
    if kind == "ros1":
        file = ros1_bag(tmp_path / "night.bag")
    else:
        storage = StoragePlugin.SQLITE3 if kind == "sqlite3" else StoragePlugin.MCAP
        file = storage_file(rosbag2(tmp_path / "bag", storage))
    if kind.endswith("index"):
        file.write_bytes(file.read_bytes()[:-8])
    with BagReader(file) as reader:
        for _ in reader.messages([TOPIC]):
            break
        tracemalloc.start()
        try:
            assert sum(1 for _ in reader.messages([TOPIC])) == COUNT
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # A chunk is a tenth of the bag, and is there a few times over while it is taken apart.
    assert peak < file.stat().st_size * 0.6


def test_the_only_topic_of_a_type_is_chosen() -> None:
    left, right, imu = (Topic("/left", IMAGE, 3), Topic("/right", IMAGE, 4), Topic("/imu", "Imu", 9))

    assert choose_topic([left, imu], None, (IMAGE,), "image") is left
    assert choose_topic([left, right], "/right", (IMAGE,), "image") is right
    with pytest.raises(
        BagError,
        match=r"several image topics, choose one with --image-topic: /left \(3 messages\), /right \(4 ",
    ):
        choose_topic([left, right, imu], None, (IMAGE,), "image")
    with pytest.raises(BagError, match=r"no image topic.*it has /imu \(Imu\)"):
        choose_topic([imu], None, (IMAGE,), "image")
    with pytest.raises(BagError, match="image topic /imu is Imu"):
        choose_topic([left, imu], "/imu", (IMAGE,), "image")
    with pytest.raises(BagError, match=r"no topic /up; for image it has /left"):
        choose_topic([left], "/up", (IMAGE,), "image")
