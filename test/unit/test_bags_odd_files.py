"""Bags as recorders, copies and other tools leave them: renamed, unpacked, open, empty, of other messages."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

import yaml
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from support.bag_factory import (
    BEGIN_NS,
    COUNT,
    ROS1,
    ROS2,
    TOPIC,
    image,
    read,
    ros1_bag,
    rosbag2,
    stamp,
    storage_file,
)

from rt_segmentation.bags import splits
from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import IMAGE
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.splits import zstd_module
from rt_segmentation.bags.topics import choose_topic
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.cli import main

zstd = zstd_module()
ALL = list(range(COUNT))
STORAGES = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("alone", [True, False])
def test_messages_that_are_compressed_one_by_one_need_no_metadata(
    tmp_path: Path, storage: StoragePlugin, alone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = rosbag2(tmp_path / "bag", storage, CompressionMode.MESSAGE)
    (bag / "metadata.yaml").unlink()
    path = storage_file(bag) if alone else bag

    numbers, reader = read(path)

    assert numbers == ALL
    assert reader.damage is None
    assert not main(["bag", "info", str(path)])
    assert "compression: message (zstd)" in capsys.readouterr().out


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("change", ["renamed", "decompressed", "compressed", "both"])
def test_what_lies_beside_the_metadata_is_read_and_said(
    tmp_path: Path, storage: StoragePlugin, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack = change in ("decompressed", "both")
    bag = rosbag2(tmp_path / "bag", storage, CompressionMode.FILE if unpack else CompressionMode.NONE)
    file = storage_file(bag)
    data, name = file.read_bytes(), file.name
    file.unlink()
    if unpack:
        data, name = zstd.decompress(data), file.name.removesuffix(".zstd")
    elif change == "compressed":
        data, name = zstd.compress(data), f"{name}.zstd"
    if change in ("renamed", "both"):
        name = f"street_at_night{Path(name).suffix}"
    (bag / name).write_bytes(data)

    numbers, reader = read(bag)

    assert numbers == ALL
    assert (reader.lost, reader.damage) == (0, None)
    (note,) = reader.notes
    assert f"{name} is read in place of {file.name}" in note
    assert not main(["bag", "info", str(bag)])
    said = capsys.readouterr().out
    assert f"note      {note}" in said
    assert f"compression: {'file (zstd)' if change == 'compressed' else 'none'}" in said


def test_of_several_renamed_files_each_stands_for_one_and_what_is_missing_is_still_lost(
    tmp_path: Path,
) -> None:
    bag = rosbag2(tmp_path / "bag")
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    described = metadata["rosbag2_bagfile_information"]
    described["relative_file_paths"] = [f"bag_{number}.mcap" for number in range(3)]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    first = storage_file(bag)
    first.rename(bag / "copy_7.mcap")
    (bag / "copy_12.mcap").write_bytes((bag / "copy_7.mcap").read_bytes())

    with BagReader(bag) as reader:
        assert sum(1 for _ in reader.times([TOPIC])) == 2 * COUNT
    (note,) = reader.notes
    assert "copy_7.mcap is read in place of bag_0.mcap, copy_12.mcap is read in place of bag_1.mcap" in note
    assert "bag_2.mcap is missing" in (reader.damage or "")


@pytest.mark.parametrize("kind", ["mcap", "db3", "bag", "mcap without its end", "bag without its end"])
def test_files_of_a_killed_recorder_keep_their_name(tmp_path: Path, kind: str) -> None:
    suffix = kind.split()[0]
    if suffix == "bag":
        whole = ros1_bag(tmp_path / "whole.bag")
    else:
        whole = storage_file(rosbag2(tmp_path / "whole", STORAGES[suffix == "db3"]))
    path = tmp_path / f"night.{suffix}.active"
    is_cut = "without" in kind
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4 if is_cut else None])

    numbers, reader = read(path)

    assert numbers == ALL[: len(numbers)] and len(numbers) > COUNT // 2
    assert (len(numbers) < COUNT) == (reader.damage is not None) == is_cut


def test_the_first_bytes_tell_what_the_name_does_not(tmp_path: Path) -> None:
    whole = storage_file(rosbag2(tmp_path / "bag")).read_bytes()
    for name, data in (
        ("night", whole),
        ("night.db3", whole),
        ("night.mcap.zstd", whole),
        ("packed.mcap", zstd.compress(whole)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        numbers, reader = read(path)
        assert numbers == ALL and reader.damage is None


@pytest.mark.parametrize("profile", ["ros1", ""])
@pytest.mark.parametrize("is_cut", [False, True])
def test_an_mcap_of_ros_1_messages_is_read(tmp_path: Path, profile: str, is_cut: bool) -> None:
    mcap = pytest.importorskip("mcap.writer", reason="mcap is not installed")
    path = tmp_path / "night.mcap"
    with path.open("wb") as file:
        writer = mcap.Writer(file, chunk_size=100_000)
        writer.start(profile, "test")
        schema = writer.register_schema("sensor_msgs/Image", "ros1msg", b"std_msgs/Header header")
        channel = writer.register_channel(TOPIC, "ros1", schema)
        for number in ALL:
            data = bytes(ROS1.serialize_ros1(image(ROS1, number), IMAGE))
            writer.add_message(channel, stamp(number), data, stamp(number))
        writer.finish()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4 if is_cut else None])

    numbers, reader = read(path)

    assert numbers == ALL[: len(numbers)] and len(numbers) > COUNT // 2
    assert reader.topics[0].type == IMAGE
    assert (len(numbers) < COUNT) == (reader.damage is not None) == is_cut


def test_messages_of_other_encodings_are_named_and_ros_2s_beside_them_are_read(tmp_path: Path) -> None:
    mcap = pytest.importorskip("mcap.writer", reason="mcap is not installed")
    path = tmp_path / "night.mcap"
    with path.open("wb") as file:
        writer = mcap.Writer(file)
        writer.start("ros2", "test")
        ours = writer.register_channel(TOPIC, "cdr", writer.register_schema(IMAGE, "ros2msg", b""))
        proto = writer.register_schema("foxglove.CompressedImage", "protobuf", b"")
        channels = [writer.register_channel("/front", "protobuf", proto)]
        channels.append(writer.register_channel("/notes", "json", 0))
        for number in ALL:
            data = bytes(ROS2.serialize_cdr(image(ROS2, number), IMAGE))
            writer.add_message(ours, stamp(number), data, stamp(number))
            for channel in channels:
                writer.add_message(channel, stamp(number), b"{}", stamp(number))
        writer.finish()

    numbers, reader = read(path)

    assert numbers == ALL and reader.damage is None
    others = [topic for topic in reader.topics if topic.name != TOPIC]
    with pytest.raises(BagError, match=r"it has /front \(foxglove.CompressedImage \(protobuf\)\), /notes"):
        choose_topic(others, None, (IMAGE,), "image")
    with pytest.raises(BagError, match=r"type foxglove.CompressedImage \(protobuf\) are not known here"):
        next(reader.messages(["/front"]))


def write_metadata(bag: Path, **changes: object) -> None:
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    content["rosbag2_bagfile_information"].update(changes)
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", ["folder", "folder with a topic", "file", "no topics in metadata.yaml"])
def test_an_empty_bag_is_described_without_a_time(
    tmp_path: Path, storage: StoragePlugin, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / "bag"
    with Writer(bag, version=8, storage_plugin=storage) as writer:
        if kind != "folder":
            writer.add_connection(TOPIC, IMAGE, typestore=ROS2)
    # As rosbag2 writes it.
    write_metadata(bag, starting_time={"nanoseconds_since_epoch": 2**63 - 1})
    if kind.startswith("no topics"):
        write_metadata(bag, topics_with_message_count=[])
    path = storage_file(bag) if kind == "file" else bag

    assert not main(["bag", "info", str(path)])

    said = capsys.readouterr().out
    assert "recorded  nothing: the bag is empty" in said and "damage    none" in said
    with BagReader(path) as reader:
        assert (reader.start_ns, reader.end_ns) == (0, 0)
        assert list(reader.messages([TOPIC])) == []


@pytest.mark.parametrize("listed", [True, False])
def test_metadata_that_promise_nothing_do_not_hide_what_the_files_have(tmp_path: Path, listed: bool) -> None:
    bag = rosbag2(tmp_path / "bag")
    described = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    topics = [{**t, "message_count": 0} for t in described["topics_with_message_count"]]
    write_metadata(bag, topics_with_message_count=topics if listed else [], message_count=0)

    numbers, reader = read(bag)

    assert numbers == ALL and reader.start_ns == BEGIN_NS
    assert "promises no messages" in reader.notes[0] and reader.damage is None


def test_an_empty_bag_is_gone_on_with_from_its_beginning(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    with Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(TOPIC, IMAGE, typestore=ROS2)
    write_metadata(bag, starting_time={"nanoseconds_since_epoch": 2**63 - 1})

    with BagWriter(bag, resume=True) as going_on:
        assert going_on.closed_messages == 0
        for number in ALL:
            going_on.write(TOPIC, IMAGE, stamp(number), image(going_on.types, number))

    with BagReader(bag) as reader:
        assert reader.topics[0].count == COUNT and reader.start_ns == BEGIN_NS


@pytest.mark.parametrize("compression", [CompressionMode.MESSAGE, CompressionMode.FILE])
@pytest.mark.parametrize(
    ("version", "name"), [((3, 13), "backports.zstd"), ((3, 14), "compression.zstd")], ids=str
)
def test_a_compression_that_cannot_be_read_here_is_no_damage(
    tmp_path: Path,
    compression: CompressionMode,
    version: tuple[int, int],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bag = rosbag2(tmp_path / "bag", StoragePlugin.SQLITE3, compression)

    def missing(asked: str) -> None:
        raise ImportError(f"No module named '{asked}'")

    monkeypatch.setattr(splits, "import_module", missing)
    monkeypatch.setattr("sys.version_info", version)
    zstd_module.cache_clear()

    with pytest.raises(BagError, match=rf"rosbags from .* on \(No module named '{name}'\): pip install"):
        read(bag)


def test_a_rosbags_that_is_too_old_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = rosbag2(tmp_path / "bag")
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[:-3])
    monkeypatch.delattr("rosbags.rosbag2.storage_mcap.decompress")

    with pytest.raises(BagError, match=r"bags need the Python package rosbags from 0.11.7 on"):
        read(bag)
