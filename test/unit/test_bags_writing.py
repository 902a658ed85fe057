"""Bags are written in splits, and what is killed loses the open one only."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to write")

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from support.bag_factory import COUNT, ROS2, TOPIC, image, read, stamp

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import IMAGE
from rt_segmentation.bags.writing import BagWriter

ALL = list(range(COUNT))


def write(writer: BagWriter, numbers: list[int]) -> None:
    for number in numbers:
        writer.write(TOPIC, IMAGE, stamp(number), image(ROS2, number))


def metadata(bag: Path) -> dict[str, object]:
    content: dict[str, dict[str, object]] = yaml.safe_load((bag / "metadata.yaml").read_text())
    return content["rosbag2_bagfile_information"]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_splits_are_one_bag_for_other_readers(tmp_path: Path, storage: str) -> None:
    bag = tmp_path / "bag"
    with BagWriter(bag, split_s=1.0, storage=storage) as writer:
        write(writer, ALL)

    suffix = "db3" if storage == "sqlite3" else storage
    assert sorted(file.name for file in bag.iterdir()) == [
        *(f"bag_{number}.{suffix}" for number in range(4)),
        "metadata.yaml",
    ]
    with AnyReader([bag]) as reader:
        assert reader.message_count == COUNT
        assert (reader.start_time, reader.end_time) == (stamp(0), stamp(COUNT - 1) + 1)
        assert [recorded_ns for _, recorded_ns, _ in reader.messages()] == [stamp(n) for n in ALL]


def test_no_split_is_longer_than_asked_and_one_moment_is_not_torn_apart(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    with BagWriter(bag, split_s=0.5) as writer:
        for number in ALL:
            for topic in ("/left", "/right"):
                writer.write(topic, IMAGE, stamp(number), image(ROS2, number))

    files = metadata(bag)["files"]
    assert isinstance(files, list)
    assert len(files) == COUNT // 5
    assert all(file["duration"]["nanoseconds"] <= 0.5e9 and file["message_count"] == 10 for file in files)


def test_no_split_holds_a_bag_twice_that_is_written_twice(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", split_s=0.5) as writer:
        for topic in ("/left", "/right"):
            for number in ALL[:12]:
                writer.write(topic, IMAGE, stamp(number), image(ROS2, number))

    files = metadata(tmp_path / "bag")["files"]
    assert isinstance(files, list)
    assert [file["message_count"] for file in files] == [5, 5, 2] * 2
    assert all(file["duration"]["nanoseconds"] <= 0.5e9 for file in files)


def test_metadata_have_the_fields_that_rosbags_writes_in_version_8(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", split_s=1.0) as ours:
        write(ours, ALL)
    with Writer(tmp_path / "theirs", version=8, storage_plugin=StoragePlugin.MCAP) as theirs:
        connection = theirs.add_connection(TOPIC, IMAGE, typestore=ROS2)
        for number in ALL:
            theirs.write(connection, stamp(number), ROS2.serialize_cdr(image(ROS2, number), IMAGE))

    found, wanted = metadata(tmp_path / "bag"), metadata(tmp_path / "theirs")
    assert found.keys() == wanted.keys()
    for key in found.keys() - {"files", "relative_file_paths"}:
        assert found[key] == wanted[key], key


def test_a_killed_writer_loses_its_open_split_and_can_be_gone_on_with(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    script = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from test_bags_writing import BagWriter, write
write(BagWriter(Path({str(bag)!r}), split_s=1.0), list(range(25)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL

    numbers, reader = read(bag)
    assert numbers == ALL[:20]
    assert reader.damage is None

    with pytest.raises(BagError, match="exists already"):
        BagWriter(bag)
    with BagWriter(bag, resume=True, split_s=1.0) as writer:
        assert writer.closed_messages == 20
        write(writer, [number for number in ALL if stamp(number) > stamp(19)])
    assert read(bag)[0] == ALL
    with AnyReader([bag]) as other:
        assert other.message_count == COUNT
    assert sorted(file.name for file in bag.iterdir()) == [
        *(f"bag_{n}.mcap" for n in range(4)),
        "metadata.yaml",
    ]


def test_a_writer_killed_before_its_first_split_was_listed(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    with BagWriter(bag) as writer:
        write(writer, [0, 1])
    (bag / "metadata.yaml").unlink()

    # It may be somebody's recording.
    with pytest.raises(BagError, match="not written here"):
        BagWriter(bag, resume=True)
    assert read(bag)[0] == [0, 1]

    (bag / ".open").mkdir()
    with BagWriter(bag, resume=True) as writer:
        assert writer.closed_messages == 0
        write(writer, [0, 1, 2])
    assert read(bag)[0] == [0, 1, 2]


def test_resume_begins_where_there_is_nothing(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", resume=True) as writer:
        assert writer.closed_messages == 0
        write(writer, [0])
    with pytest.raises(BagError, match="stored as mcap"):
        BagWriter(tmp_path / "bag", resume=True, storage="sqlite3")
    assert read(tmp_path / "bag")[0] == [0]


def test_what_raises_leaves_a_closed_bag(tmp_path: Path) -> None:
    with pytest.raises(KeyError), BagWriter(tmp_path / "bag") as writer:
        write(writer, [0, 1])
        raise KeyError

    assert read(tmp_path / "bag")[0] == [0, 1]


def test_overwrite_replaces_a_bag_and_nothing_else(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    for numbers in ([0, 1, 2], [3]):
        with BagWriter(bag, overwrite=True) as writer:
            write(writer, numbers)
    assert read(bag)[0] == [3]

    # Who cannot make the new one keeps the old one.
    with pytest.raises(KeyError), BagWriter(bag, overwrite=True):
        raise KeyError
    assert read(bag)[0] == [3]

    (bag / "thesis.txt").write_text("years of work")
    for mode in ("overwrite", "resume"):
        with pytest.raises(BagError, match="thesis"):
            BagWriter(bag, overwrite=mode == "overwrite", resume=mode == "resume")
    assert (bag / "thesis.txt").exists()
    assert read(bag)[0] == [3]
