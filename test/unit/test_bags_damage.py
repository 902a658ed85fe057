"""Of a damaged bag everything whole is read, and the reader says where it broke and what is lost."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from support.bag_factory import (
    BEGIN_NS,
    CHUNK,
    COUNT,
    PERIOD_NS,
    ROS2,
    TOPIC,
    image,
    read,
    ros1_bag,
    rosbag2,
    storage_file,
)

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import IMAGE
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.writing import BagWriter

ALL = list(range(COUNT))


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def scribble(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 64)


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("with_metadata", [True, False])
def test_a_truncated_file(tmp_path: Path, storage: StoragePlugin, share: float, with_metadata: bool) -> None:
    bag = rosbag2(tmp_path / "bag", storage)
    cut(storage_file(bag), share)
    if not with_metadata:
        (bag / "metadata.yaml").unlink()

    numbers, reader = read(bag)

    # At most a chunk, or as much as SQLite keeps open, goes with the end.
    assert numbers == ALL[: len(numbers)]
    assert COUNT * share - 2 * CHUNK < len(numbers) < COUNT
    assert f"broke after its message {len(numbers)}: " in (reader.damage or "")
    if with_metadata:
        assert reader.lost == COUNT - len(numbers)
        assert f"{reader.lost} of {COUNT} messages are lost" in (reader.damage or "")
    else:
        assert reader.lost is None


def test_an_mcap_file_without_its_last_bytes(tmp_path: Path) -> None:
    bag = rosbag2(tmp_path / "bag")
    file = storage_file(bag)
    os.truncate(file, file.stat().st_size - 3)

    numbers, reader = read(bag)

    assert numbers == ALL
    assert reader.lost == 0
    assert "damaged index" in (reader.damage or "")


@pytest.mark.parametrize("missing", [0, 1, 5, 4095])
@pytest.mark.parametrize("page_size", [4096, 65536])
def test_an_sqlite_file_whose_last_page_is_not_whole(tmp_path: Path, missing: int, page_size: int) -> None:
    bag = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3)
    file = storage_file(bag)
    # A page behind the messages, as of rosbag2's own table of metadata; 65536 has a number of its own.
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {page_size}")
        database.execute("VACUUM")
        database.execute("CREATE TABLE behind (text TEXT)")
    os.truncate(file, file.stat().st_size - missing)

    numbers, reader = read(bag)

    # SQLite takes the missing bytes for zeros, and the messages are there.
    assert numbers == ALL and reader.lost == 0
    if not missing:
        assert reader.damage is None
    else:
        assert f"{file.name} lacks its last {missing} bytes" in (reader.damage or "")


def test_an_sqlite_file_whose_header_does_not_know_its_size_is_not_said_to_be_cut_off(tmp_path: Path) -> None:
    bag = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3)
    with storage_file(bag).open("r+b") as file:
        # Written by SQLite before 3.7.0: the size is of an earlier state.
        file.seek(28)
        file.write((10**6).to_bytes(4, "big"))
        file.seek(92)
        file.write(bytes(4))

    numbers, reader = read(bag)

    assert numbers == ALL and reader.damage is None


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_an_mcap_file_with_a_damaged_chunk(tmp_path: Path, share: float) -> None:
    bag = rosbag2(tmp_path / "bag", compression=CompressionMode.STORAGE)
    file = storage_file(bag)
    # The head of the fifth chunk's compression: nothing checks the pixels themselves.
    scribble(file, list(re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), file.read_bytes()))[4].start())
    cut(file, share)

    numbers, reader = read(bag)

    # The others are in order, and the chunks behind the damage are there.
    assert numbers == sorted(set(numbers))
    missing = sorted(set(range(max(numbers) + 1)) - set(numbers))
    assert len(missing) == CHUNK
    assert f"broke after its message {missing[0]}: a chunk is damaged" in (reader.damage or "")
    assert reader.lost == COUNT - len(numbers)
    assert COUNT * share - 2 * CHUNK <= len(numbers)


def test_a_truncated_mcap_file_that_is_not_in_the_order_of_time(tmp_path: Path) -> None:
    order = ALL.copy()
    order[5], order[9] = order[9], order[5]
    bag = rosbag2(tmp_path / "bag", order=order)
    cut(storage_file(bag), 0.95)

    numbers, _ = read(bag)

    assert sorted(numbers) == ALL[: len(numbers)]
    assert len(numbers) >= COUNT - 2 * CHUNK


@pytest.mark.parametrize("compression", list(Ros1Writer.CompressionFormat))
def test_a_bag_of_ros_1_with_a_damaged_chunk(
    tmp_path: Path, compression: Ros1Writer.CompressionFormat
) -> None:
    bag = ros1_bag(tmp_path / "night.bag", compression)
    scribble(bag, bag.stat().st_size // 2)

    with BagReader(bag) as reader:
        count = sum(1 for _ in reader.messages([TOPIC]))

    # The bytes of lz4 have no checksum: where they still decompress, the damage is a message's own.
    assert count in (COUNT, COUNT - CHUNK)
    assert (reader.damage is None) == (count == COUNT)


@pytest.mark.parametrize("share", [0.4, 0.8, 0.99])
@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_a_bag_of_ros_1_without_its_index(
    tmp_path: Path, share: float, compression: Ros1Writer.CompressionFormat | None
) -> None:
    bag = ros1_bag(tmp_path / "night.bag", compression)
    cut(bag, share)

    numbers, reader = read(bag)

    assert numbers == ALL[: len(numbers)]
    assert len(numbers) > COUNT * share - 2 * CHUNK
    assert f"broke after its message {len(numbers)}: " in (reader.damage or "")


def test_a_file_truncated_within_its_compression(tmp_path: Path) -> None:
    bag = rosbag2(tmp_path / "bag", compression=CompressionMode.FILE)
    cut(storage_file(bag), 0.6)

    numbers, reader = read(bag)

    assert numbers == ALL[: len(numbers)]
    assert len(numbers) > COUNT * 0.6 - 2 * CHUNK
    assert reader.lost == COUNT - len(numbers)


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 60])
def test_a_damaged_message_is_left_out(tmp_path: Path, data: bytes) -> None:
    bag = rosbag2(tmp_path / "bag", change=lambda number, whole: data if number == 6 else whole)

    numbers, reader = read(bag)

    assert numbers == [number for number in ALL if number != 6]
    assert reader.lost == 1
    assert f"1 of {COUNT} messages are damaged, first message 7" in (reader.damage or "")


def test_a_damaged_compressed_message_is_left_out(tmp_path: Path) -> None:
    bag = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3, CompressionMode.MESSAGE)
    with sqlite3.connect(storage_file(bag)) as connection:
        connection.execute("UPDATE messages SET data = x'00112233' WHERE id = 7")
    connection.close()

    numbers, reader = read(bag)

    assert numbers == [number for number in ALL if number != 6]
    assert reader.lost == 1


def test_messages_in_the_log_of_a_killed_recorder(tmp_path: Path) -> None:
    bag = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3, order=range(10))
    (bag / "metadata.yaml").unlink()
    script = f"""
import os, signal, sqlite3
connection = sqlite3.connect({str(storage_file(bag))!r})
connection.execute("PRAGMA journal_mode = WAL")
row = connection.execute("SELECT topic_id, data FROM messages WHERE id = 10").fetchone()
for number in range(10, 20):
    stamp = {BEGIN_NS} + number * {PERIOD_NS}
    connection.execute("INSERT INTO messages (topic_id, data, timestamp) VALUES (?, ?, ?)", (*row, stamp))
    connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL

    with BagReader(bag) as reader:
        assert reader.topics[0].count == 20
        assert [(m.recorded_ns - BEGIN_NS) // PERIOD_NS for m in reader.messages([TOPIC])] == ALL[:20]
        assert reader.damage is None


def split_bag(path: Path) -> Path:
    """Four files of ten images."""
    with BagWriter(path, split_s=1.0) as writer:
        for number in ALL:
            writer.write(TOPIC, IMAGE, BEGIN_NS + number * PERIOD_NS, image(ROS2, number))
    return path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", "bag_1.mcap is missing"),
        ("empty", "bag_1.mcap is empty"),
        ("foreign", "bag_1.mcap broke after its message 0: it does not begin as an MCAP file does"),
        ("short", "bag_1.mcap broke after its message 0: it ends within a record"),
    ],
)
def test_one_damaged_file_of_four(tmp_path: Path, damage: str, said: str) -> None:
    bag = split_bag(tmp_path / "bag")
    file = bag / "bag_1.mcap"
    if damage == "missing":
        file.unlink()
    elif damage == "foreign":
        file.write_bytes(b"something else" * 100)
    else:
        os.truncate(file, 0 if damage == "empty" else 100)

    numbers, reader = read(bag)

    assert numbers == [*range(10), *range(20, COUNT)]
    assert reader.lost == 10
    assert said in (reader.damage or "")


@pytest.mark.parametrize("content", ["", "a: [", "rosbag2_bagfile_information: 3", "other: 1"])
def test_damaged_metadata_are_rebuilt_from_the_files(tmp_path: Path, content: str) -> None:
    bag = split_bag(tmp_path / "bag")
    (bag / "metadata.yaml").write_text(content)

    numbers, reader = read(bag)

    assert numbers == ALL
    assert reader.topics[0].count == COUNT
    assert "metadata.yaml is damaged" in (reader.damage or "")


# Whoever reads it, root as well, is refused.
UNREADABLE = Path("/proc/self/mem")


@pytest.mark.skipif(not UNREADABLE.exists(), reason="Linux has such a file")
def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"bag .*xxx cannot be read: .*name too long"):
        BagReader(tmp_path / ("x" * 300))
    bag = split_bag(tmp_path / "bag")
    (bag / "metadata.yaml").unlink()
    (bag / "metadata.yaml").symlink_to(UNREADABLE)

    numbers, reader = read(bag)

    assert numbers == ALL
    assert "metadata.yaml cannot be read: Input/output error" in (reader.damage or "")


@pytest.mark.parametrize("name", ["night.mcap", "night.db3", "night.bag", "night.mcap.zstd", "night.txt"])
@pytest.mark.parametrize("content", [b"", b"no bag" * 50])
def test_what_is_no_bag(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(BagError, match=name):
        BagReader(path)


def test_a_folder_without_bags(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"neither metadata.yaml nor"):
        BagReader(tmp_path)
    with pytest.raises(BagError, match="does not exist"):
        BagReader(tmp_path / "other")


def test_a_folder_with_damaged_metadata_alone(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("x\n")
    with pytest.raises(BagError, match=r"metadata.yaml is damaged .*, and it has no .mcap or .db3 files"):
        BagReader(tmp_path)
