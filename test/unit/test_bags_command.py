"""`rt_seg bag make` and `rt_seg bag info`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to make")

from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionMode
from support.bag_factory import COUNT, TOPIC, image, ros1_bag, rosbag2, stamp, storage_file

from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE, to_frame
from rt_segmentation.bags.reading import BagReader
from rt_segmentation.bags.topics import Topic
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.cli import main
from rt_segmentation.data.dataset import read_labels, read_rgb
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.imaging.convert import to_rgb


def info(capsys: pytest.CaptureFixture[str], *bags: Path) -> list[dict[str, object]]:
    capsys.readouterr()
    main(["bag", "info", "--json", *map(str, bags)])
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["bags"]
    return found


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_of_the_street(tmp_path: Path, storage: str) -> None:
    out = tmp_path / "street"
    options = f"--seed 3 --frames 4 --rate 20 --start-time 100 --storage {storage}".split()
    assert not main(["bag", "make", str(out), "--images", "street", *options])

    with BagReader(out) as reader:
        assert reader.topics == (Topic("/camera/image", IMAGE, 4), Topic("/camera/label", IMAGE, 4))
        messages = list(reader.messages(["/camera/image", "/camera/label"]))
    scene = StreetScene(3)
    for number, (picture, label) in enumerate(zip(messages[::2], messages[1::2])):
        rgb, labels = scene.render(number / 20)
        assert picture.recorded_ns == label.recorded_ns == 100 * 10**9 + number * 50_000_000
        assert to_frame(picture).stamp_ns == to_frame(label).stamp_ns == picture.recorded_ns
        assert np.array_equal(to_frame(picture).planes[0], rgb)
        assert np.array_equal(to_frame(label).planes[0], labels)


def test_ctrl_c_leaves_a_bag_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, render = tmp_path / "street", StreetScene.render

    def pressed(scene: StreetScene, t_s: float) -> Any:
        if t_s > 0.15:
            raise KeyboardInterrupt
        return render(scene, t_s)

    monkeypatch.setattr(StreetScene, "render", pressed)
    assert main(["bag", "make", str(out), "--images", "street", "--rate", "10"]) == 130
    assert capsys.readouterr().err.endswith(f"what {out} has so far can be read\nrt_seg bag: interrupted\n")
    with BagReader(out) as reader:
        assert reader.topics[0].count == 2


def test_a_bag_of_a_folder_skips_what_has_no_labels_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"images/{number}.png"), rng.integers(0, 256, (48, 64, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"labels/{number}.png"), rng.integers(0, 11, (48, 64), np.uint8))
    (tmp_path / "labels/1.png").unlink()
    make = f"bag make {tmp_path}/bag --images {tmp_path}/images --labels {tmp_path}/labels".split()

    (tmp_path / "images" / "notes.txt").touch()
    assert main([*make, "--compressed", "png", "--topic", "/front", "--label-topic", "/truth"]) == 2

    said = capsys.readouterr()
    assert "2 images at 10 Hz, 1 skipped" in said.out
    assert "1.png" in said.err and "1 other file is passed over (.txt)" in said.err
    assert f"1 of the 3 images of {tmp_path}/images could not be used, as said above" in said.err
    with BagReader(tmp_path / "bag") as reader:
        assert reader.topics == (Topic("/front/compressed", COMPRESSED_IMAGE, 2), Topic("/truth", IMAGE, 2))
        frames = [to_frame(message) for message in reader.messages(["/front/compressed"])]
    for frame, name in zip(frames, ("0.png", "2.png")):
        assert np.array_equal(to_rgb(frame), read_rgb(tmp_path / "images" / name))

    # Nothing is overwritten that is not to be.
    assert main(make) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*make, "--overwrite"]) == 2
    assert "exists already" not in capsys.readouterr().err


def test_why_no_image_could_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((8, 8, 3), np.uint8))
    folders = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    assert main(["bag", "make", str(tmp_path / "bag"), *folders]) == 2
    assert re.search(r"none of the 1 images of .* could be read; 'a\.png': .*labels", capsys.readouterr().err)


def test_a_bag_of_a_video_has_its_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for _ in range(6):
        video.write(np.zeros((48, 64, 3), np.uint8))
    video.release()

    assert not main(f"bag make {tmp_path}/bag --images {tmp_path}/v.avi".split())

    (bag,) = info(capsys, tmp_path / "bag")
    assert bag["duration_s"] == 0.2
    assert bag["topics"] == [
        {"name": "/camera/image", "type": IMAGE, "promised": 6, "messages": 6, "rate_hz": 25.0}
    ]


def test_info_of_whole_and_damaged_bags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = rosbag2(tmp_path / "whole", compression=CompressionMode.STORAGE)
    damaged = rosbag2(tmp_path / "damaged", compression=CompressionMode.MESSAGE)
    file = storage_file(damaged)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    old = ros1_bag(tmp_path / "old.bag", Ros1Writer.CompressionFormat.LZ4)

    bags = info(capsys, whole, damaged, old)

    assert [bag["compression"] for bag in bags] == ["chunk (zstd)", "message (zstd)", "chunk (lz4)"]
    topic = {"name": TOPIC, "type": IMAGE, "promised": COUNT, "messages": COUNT, "rate_hz": 10.0}
    assert bags[0]["topics"] == [topic]
    assert bags[2]["topics"] == [{**topic, "promised": None}]
    assert (bags[0]["damage"], bags[0]["lost"], bags[0]["files"]) == (None, 0, ["whole.mcap"])
    assert "broke after its message" in str(bags[1]["damage"])
    assert 0 < int(str(bags[1]["lost"])) < COUNT

    # Without one that can be read there is nothing to print.
    assert main(["bag", "info", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().out == ""
    # One that cannot be read at all does not hide the others.
    assert main(["bag", "info", str(whole), str(tmp_path / "none")]) == 2
    said = capsys.readouterr()
    assert f"{TOPIC}  {IMAGE}  {COUNT} messages  10.00 Hz" in said.out
    assert "none does not exist" in said.err


def test_stamps_that_ros_cannot_hold_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--images", "street", "--frames", "2", "--start-time", "2147483647", "--rate", "1"]
    assert main(["bag", "make", str(tmp_path / "bag"), *given]) == 2
    assert "image 2 would be of 2147483648 s after the epoch; ROS stamps end at" in capsys.readouterr().err
    (images := tmp_path / "images").mkdir()
    for name in "ab":
        cv2.imwrite(str(images / f"{name}.png"), np.zeros((4, 4, 3), np.uint8))
    given = ["--images", str(images), "--frames", f"1{400 * '0'}", "--rate", "1e-300"]
    assert main(["bag", "make", str(tmp_path / "slow"), *given]) == 2
    assert "image 2 would be of inf s after the epoch; ROS stamps end at" in capsys.readouterr().err


def test_the_rate_of_a_topic_is_that_without_the_recorders_pause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(6):
            late_ns = 10**12 if number > 2 else 0
            writer.write(TOPIC, IMAGE, stamp(number) + late_ns, image(writer.types, number))

    (bag,) = info(capsys, tmp_path / "bag")

    topics: Any = bag["topics"]
    assert [topic["rate_hz"] for topic in topics] == [pytest.approx(10)]


def test_camvid_comes_back_bit_for_bit(tmp_path: Path, shared_data: Path) -> None:
    split = shared_data / "camvid" / "val"
    images, labels = (sorted((split / kind).iterdir()) for kind in ("images", "labels"))

    assert not main(f"bag make {tmp_path}/bag --images {split}/images --labels {split}/labels".split())

    with BagReader(tmp_path / "bag") as reader:
        for topic, files, load in (
            ("/camera/image", images, read_rgb),
            ("/camera/label", labels, read_labels),
        ):
            found = [to_frame(message).planes[0] for message in reader.messages([topic])]
            assert len(found) == len(files) == 101
            assert all(np.array_equal(pixels, load(file)) for pixels, file in zip(found, files))
        assert reader.damage is None
