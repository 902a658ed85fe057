"""Bags whose files are whole and laid out as few are: publishers that share a topic, no index, no order."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from support.bag_factory import CHUNK, COUNT, ROS1, ROS2, TOPIC, image, read, rosbag2, stamp, storage_file

from rt_segmentation.bags.choosing import choose_images
from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import IMAGE, to_frame
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.splits import find_splits
from rt_segmentation.bags.topics import Topic
from rt_segmentation.cli import main

ALL = list(range(COUNT))
NO_TIME = QosTime(0, 0)
QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.BEST_EFFORT,
    QosDurability.VOLATILE,
    NO_TIME,
    NO_TIME,
    QosLiveliness.AUTOMATIC,
    NO_TIME,
    False,
)


def two_publishers(path: Path, kind: str) -> Path:
    """The last ten images of the topic come from another publisher than those before them."""
    if kind == "ros1":
        with Ros1Writer(path) as writer:
            old, new = (
                writer.add_connection(TOPIC, IMAGE, typestore=ROS1, callerid=f"/camera_{number}")
                for number in (1, 2)
            )
            for number in ALL:
                data = ROS1.serialize_ros1(image(ROS1, number), IMAGE)
                writer.write(old if number < COUNT - 10 else new, stamp(number), data)
        return path
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as bag:
        connections = [
            bag.add_connection(TOPIC, IMAGE, typestore=ROS2, offered_qos_profiles=offered)
            for offered in ((), (QOS,))
        ]
        for number in ALL:
            data = ROS2.serialize_cdr(image(ROS2, number), IMAGE)
            bag.write(connections[number >= COUNT - 10], stamp(number), data)
    return storage_file(path) if kind == "file" else path


@pytest.mark.parametrize("kind", ["ros1", "file", "folder"])
def test_the_messages_of_a_topic_are_those_of_all_its_publishers(tmp_path: Path, kind: str) -> None:
    numbers, reader = read(two_publishers(tmp_path / ("night.bag" if kind == "ros1" else "bag"), kind))

    assert numbers == ALL
    assert reader.topics == (Topic(TOPIC, IMAGE, COUNT),)
    assert not reader.lost and reader.damage is None


def bag_with(path: Path, counts: dict[str, int]) -> Path:
    """A bag with so many images on each topic, of which some have none."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as bag:
        for topic, count in counts.items():
            connection = bag.add_connection(topic, IMAGE, typestore=ROS2)
            for number in range(count):
                bag.write(connection, stamp(number), ROS2.serialize_cdr(image(ROS2, number), IMAGE))
    return path


@pytest.mark.parametrize("used", ["/image/compressed", "/label"])
def test_a_topic_that_was_only_announced_takes_no_part_in_the_choice(tmp_path: Path, used: str) -> None:
    with BagReader(bag_with(tmp_path / "bag", {"/image": 0, used: 3})) as reader:
        topic, note = choose_images(reader, None)

    assert topic.name == used
    assert note == (
        f"the images are those of {used}; left aside: /image (no messages); --image-topic takes any"
    )


def test_labels_do_not_take_the_place_of_images_that_were_only_announced(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as bag:
        bag.add_connection("/image", IMAGE, typestore=ROS2)
        labels = bag.add_connection("/label", IMAGE, typestore=ROS2)
        of_color = image(ROS2, 1)
        pixels = np.ones(of_color.height * of_color.width, np.uint8)
        ids = replace(of_color, encoding="mono8", step=of_color.width, data=pixels)
        bag.write(labels, stamp(1), ROS2.serialize_cdr(ids, IMAGE))
    refusal = r"camera's images: /image \(no messages\), /label \(named as labels\); --image-topic takes any"
    with BagReader(tmp_path / "bag") as reader:
        with pytest.raises(BagError, match=refusal):
            choose_images(reader, None)
        assert choose_images(reader, "/label")[0].name == "/label"


def test_images_cannot_be_the_labels_as_well(tmp_path: Path) -> None:
    with BagReader(bag_with(tmp_path / "bag", {"/image": 2, "/other": 2})) as reader:
        with pytest.raises(BagError, match="topic image is asked for as the images, and as something else"):
            choose_images(reader, "image", ["/image"])
        assert choose_images(reader, "other", ["/image"])[0].name == "/other"


def test_a_topic_is_left_aside_as_a_copy_of_one_with_messages(tmp_path: Path) -> None:
    with BagReader(bag_with(tmp_path / "bag", {"/image": 2, "/image/compressed": 2})) as reader:
        topic, note = choose_images(reader, None)

    assert topic.name == "/image" and "/image/compressed (the same images compressed)" in note


def mcap_file(path: Path, order: Sequence[int] = ALL, **options: Any) -> Path:
    """An MCAP of four images a chunk, written in some order by the reference library with these options."""
    mcap = pytest.importorskip("mcap.writer", reason="mcap is not installed")
    size = len(ROS2.serialize_cdr(image(ROS2, 0), IMAGE))
    with path.open("wb") as file:
        writer = mcap.Writer(file, chunk_size=CHUNK * size, **options)
        writer.start("ros2", "test")
        channel = writer.register_channel(TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b""))
        for number in order:
            data = bytes(ROS2.serialize_cdr(image(ROS2, number), IMAGE))
            writer.add_message(channel, stamp(number), data, stamp(number))
        writer.finish()
    return path


NO_CHANNELS = {"repeat_channels": False, "repeat_schemas": False}
SWAPPED = [*range(20), 29, *range(21, 29), 20, *range(30, COUNT)]


@pytest.mark.parametrize("order", [ALL, SWAPPED])
@pytest.mark.parametrize(
    "options",
    [
        {"index_types": ["CHUNK"]},
        {"index_types": ["CHUNK"], "use_statistics": False},
        {"index_types": []},
        {"use_statistics": False},
        NO_CHANNELS,
        {**NO_CHANNELS, "use_statistics": False},
        {"use_chunking": False},
        {"use_chunking": False, "use_statistics": False, "index_types": [], **NO_CHANNELS},
    ],
)
def test_what_the_index_of_a_whole_mcap_leaves_out_is_read_all_the_same(
    tmp_path: Path, options: dict[str, Any], order: list[int]
) -> None:
    mcap = pytest.importorskip("mcap.writer", reason="mcap is not installed")
    if "index_types" in options:
        kinds = [mcap.IndexType[name] for name in options["index_types"]]
        options = {**options, "index_types": reduce(or_, kinds, mcap.IndexType.NONE)}

    numbers, reader = read(mcap_file(tmp_path / "night.mcap", order, **options))

    assert numbers == ALL
    assert reader.topics == (Topic(TOPIC, IMAGE, COUNT),)
    assert (reader.start_ns, reader.end_ns) == (stamp(0), stamp(COUNT - 1))
    assert reader.damage is None


def test_a_time_of_64_bits_has_no_rate_and_is_described_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mcap = pytest.importorskip("mcap.writer", reason="mcap is not installed")
    path = tmp_path / "night.mcap"
    with path.open("wb") as file:
        writer = mcap.Writer(file)
        writer.start("ros2", "test")
        channel = writer.register_channel(TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b""))
        writer.add_message(channel, 2**64 - 1, bytes(ROS2.serialize_cdr(image(ROS2, 0), IMAGE)), 0)
        writer.finish()

    assert main(["bag", "info", str(path)]) == 0
    assert f"{IMAGE}  1 messages" in capsys.readouterr().out


def test_chunks_that_need_the_channels_of_an_earlier_one_are_read_by_time(tmp_path: Path) -> None:
    order = [*range(20, 40), *range(20)]
    path = mcap_file(tmp_path / "night.mcap", order)
    path.write_bytes(path.read_bytes()[:-8])

    numbers, reader = read(path)

    assert numbers == ALL and "damaged index" in (reader.damage or "")


def test_messages_of_one_moment_are_read_once_each_on_both_sides_of_damage(tmp_path: Path) -> None:
    """All but the first are of one time: where the reader breaks, some of them have come."""
    bag = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(storage_file(bag))) as database, database:
        database.execute("UPDATE messages SET timestamp = ? WHERE id > 1", (stamp(1),))

    def broken(reader: Any, *arguments: Any) -> Iterator[Any]:
        yield from itertools.islice(messages(reader, *arguments), 5)
        raise ValueError("a page is damaged")

    messages = Reader.messages
    with pytest.MonkeyPatch.context() as patch, BagReader(bag) as reader:
        patch.setattr(Reader, "messages", broken)
        found = [to_frame(message).stamp_ns for message in reader.messages([TOPIC])]

    assert sorted(found) == [stamp(number) for number in ALL]


def test_splits_without_metadata_are_read_by_their_number(tmp_path: Path) -> None:
    """Whatever dots and numbers the bag's own name has."""
    names = [f"site_2.1_{number}.mcap" for number in range(12)]
    for name in names:
        (tmp_path / name).touch()
    assert [file.name for file in find_splits(tmp_path).files] == names


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("again/../bag", "bag .*/again/../bag is given twice; give each once"),
        ("bag/bag.mcap", "bag .*/bag/bag.mcap is a part of .*/bag; give one of both"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["evaluate-bag", "--model", "enet", "--out", "OUT"],
        ["compare", "enet", "lednet"],
        ["bag", "sample", "--strategy", "uniform", "--out", "OUT"],
    ],
)
def test_no_message_counts_twice(
    command: list[str], other: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rosbag2(tmp_path / "bag")
    (tmp_path / "again").mkdir()
    bags = [str(tmp_path / "bag"), f"{tmp_path}/{other}"]
    option = ["--bag"] if command[0] == "compare" else []
    given = [word.replace("OUT", str(tmp_path / "out")) for word in command]
    assert main([*given, *(word for bag in bags for word in (*option, bag))]) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
