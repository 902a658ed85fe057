"""Bags whose files are whole and laid out in a way that is rare: publishers that share a topic."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from support.bag_factory import COUNT, ROS1, ROS2, TOPIC, image, read, stamp, storage_file

from rt_segmentation.bags.choosing import choose_images
from rt_segmentation.bags.frames import IMAGE
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.topics import Topic

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


def test_a_topic_is_left_aside_as_a_copy_of_one_with_messages(tmp_path: Path) -> None:
    with BagReader(bag_with(tmp_path / "bag", {"/image": 2, "/image/compressed": 2})) as reader:
        topic, note = choose_images(reader, None)

    assert topic.name == "/image" and "/image/compressed (the same images compressed)" in note
