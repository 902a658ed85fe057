"""Image files as people have them: truncated, without an end marker, and with names that are not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.dataset_layouts import blocks, image

from rt_segmentation.data.dataset import DatasetError, read_rgb
from rt_segmentation.data.sources import FolderSource, VideoSource
from rt_segmentation.files import files_in
from rt_segmentation.imaging.codec import encode_jpeg, encode_png
from rt_segmentation.imaging.files import write_image
from rt_segmentation.imaging.pictures import write_picture
from rt_segmentation.inference.parity import Gate, ParityError, parity_frames
from rt_segmentation.text import printable

# GBK, as in a zip that was made elsewhere.
NAME = os.fsdecode(b"\xb3\xb5\xb5\xc0")


def smooth(width: int = 320, height: int = 240) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([230 * x, 200 * y + 20, 250 - 200 * x * y], -1).astype(np.uint8)


JPEG = encode_jpeg(smooth(), 90)


def test_a_truncated_jpeg_is_refused_wherever_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(DatasetError, match=r"half.jpg is not an image that can be used: the JPEG is trunc"):
        read_rgb(tmp_path / "half.jpg")
    with pytest.raises(ParityError, match=r"half.jpg .* truncated"):
        parity_frames(64, 64, Gate(frames=tmp_path))
    (tmp_path / "whole.jpg").write_bytes(JPEG)
    warnings: list[str] = []
    source = FolderSource(tmp_path, on_warning=warnings.append)
    assert [found.name for found in source] == ["whole.jpg"] and source.skipped == 1
    assert "skipped 'half.jpg'" in warnings[0] and "truncated" in warnings[0]


def test_a_jpeg_file_without_its_end_marker_is_whole(tmp_path: Path) -> None:
    (tmp_path / "whole.jpg").write_bytes(JPEG)
    (tmp_path / "open.jpg").write_bytes(JPEG[:-2])
    np.testing.assert_array_equal(read_rgb(tmp_path / "open.jpg"), read_rgb(tmp_path / "whole.jpg"))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".ppm", ".webp"])
def test_files_are_read_and_written_as_by_opencv(suffix: str, tmp_path: Path) -> None:
    bgr = smooth()[..., ::-1]
    write_image(tmp_path / f"ours{suffix}", bgr)
    cv2.imwrite(str(tmp_path / f"theirs{suffix}"), bgr)
    assert (tmp_path / f"ours{suffix}").read_bytes() == (tmp_path / f"theirs{suffix}").read_bytes()
    theirs = cv2.imread(str(tmp_path / f"theirs{suffix}"))
    np.testing.assert_array_equal(read_rgb(tmp_path / f"ours{suffix}")[..., ::-1], theirs)
    with pytest.raises(OSError, match="no image's suffix"):
        write_image(tmp_path / "a.text", bgr)


def test_what_is_no_image_or_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"a.png is not an image .*: the file is not an image that OpenCV"):
        read_rgb(tmp_path / "a.png")
    with pytest.raises(
        DatasetError, match=r"b.png is not an image .*: the file cannot be read: No such file"
    ):
        read_rgb(tmp_path / "b.png")


def test_a_name_that_is_not_utf_8_can_be_printed() -> None:
    assert printable(Path("a") / f"{NAME}.png") == r"a/\xb3\xb5\xb5\xc0.png"
    assert printable("Straße") == "Straße" and printable("\ud800") == r"\ud800"


@pytest.fixture()
def foreign(tmp_path: Path) -> Path:
    """A folder with such a name, and images, labels and a video with such names in it."""
    folder = tmp_path / NAME
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(2):
        (folder / "images" / f"{NAME}{number}.png").write_bytes(encode_png(image(number)))
        (folder / "labels" / f"{NAME}{number}.png").write_bytes(encode_png(blocks(number, (0, 1))))
    (folder / "images" / f"{NAME}9.png").write_bytes(b"no image")
    (folder / "labels" / f"{NAME}9.png").write_bytes(encode_png(blocks(9, (0, 1))))
    plain = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for value in (40, 120):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    plain.rename(folder / f"{NAME}.avi")
    return folder


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which OpenCV used to end."""
    command: list[str | bytes] = [sys.executable, "-m", "rt_segmentation.cli", *map(os.fsencode, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_commands_take_names_that_are_not_utf_8(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "name: s\nclasses:\n  - {id: 0, name: a, color: [1, 2, 3]}\n  - {id: 1, name: b, color: [4, 5, 6]}\n"
    )
    stats = run(
        "dataset", "stats", "--dataset", "folder", "--data-root", foreign, "--split", "",
        "--option", f"label_set={tmp_path / 'site.yaml'}", "--out", foreign / f"{NAME}.jpg",
        "--json", foreign / f"{NAME}.json",
    )  # fmt: skip
    # One file is no image: its name is told, in a form that can be printed.
    assert stats.returncode == 2 and "2 frames: 2 of 64x48" in stats.stdout, stats
    assert r"\xb3\xb5\xb5\xc09.png is not an image" in stats.stderr.replace("\\udc", r"\x"), stats.stderr
    assert (foreign / f"{NAME}.jpg").is_file() and (foreign / f"{NAME}.json").is_file()


def test_bags_are_made_of_names_that_are_not_utf_8(foreign: Path) -> None:
    pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to write")
    made = run("bag", "make", foreign / "bag", "--images", foreign / "images", "--labels", foreign / "labels")
    assert made.returncode == 2 and ": 2 images at 10 Hz, 1 skipped" in made.stdout, made
    film = run("bag", "make", foreign / "film", "--images", foreign / f"{NAME}.avi")
    assert film.returncode == 0 and ": 2 images at 10 Hz, 0 skipped" in film.stdout, film
    told = run("bag", "info", foreign / "bag", foreign / "film")
    assert told.returncode == 0 and told.stdout.count("2 messages") == 3, told


def test_pictures_and_videos_have_any_name(foreign: Path) -> None:
    write_picture(foreign / f"{NAME}.png", smooth())
    np.testing.assert_array_equal(read_rgb(foreign / f"{NAME}.png"), smooth())
    assert [found.rgb.shape for found in VideoSource(foreign / f"{NAME}.avi")] == [(48, 64, 3)] * 2
    assert all(printable(found.name) == found.name for found in FolderSource(foreign / "images"))
    assert len(files_in(foreign / "images")) == 3
