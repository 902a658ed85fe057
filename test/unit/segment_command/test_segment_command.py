"""`rt_seg segment`: what it writes, what it never replaces, and what it says of bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation.api import Segmenter
from rt_segmentation.cli import main
from rt_segmentation.data.dataset import read_rgb
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.imaging.pictures import write_picture
from rt_segmentation.models import ModelManifest


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_folder_becomes_labels_and_overlays(
    images: Path,
    segment: list[str],
    small_model: ModelManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["segment", str(images), *segment]) == 0
    out = tmp_path / "out"
    assert names(out) == [f"{n}_{kind}" for n in range(3) for kind in ("labels.png", "overlay.jpg")]
    said = capsys.readouterr().out
    assert said.startswith("3 images segmented by small on torch") and "6 files in" in said
    labels = cv2.imread(str(out / "1_labels.png"), cv2.IMREAD_UNCHANGED)
    expected = Segmenter(small_model, "torch")(read_rgb(images / "1.png"))
    assert labels.ndim == 2 and (labels == expected.labels).all()


def test_the_time_of_an_image_is_without_the_engine_of_its_size(
    images: Path, segment: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        scene = StreetScene(1, 96, 64 + 16 * number)
        cv2.imwrite(str(images / f"{number}.png"), scene.render(0)[0][..., ::-1])
    assert main(["segment", str(images), *segment]) == 0
    assert "per image" not in capsys.readouterr().out  # each of the three waited for an engine of its own
    cv2.imwrite(str(images / "3.png"), scene.render(1)[0][..., ::-1])
    assert main(["segment", str(images), *segment, "--overwrite"]) == 0
    assert "ms per image" in capsys.readouterr().out


def test_one_image_in_all_kinds(images: Path, segment: list[str], tmp_path: Path) -> None:
    kinds = "labels,color,confidence,overlay"
    assert main(["segment", str(images / "0.png"), *segment, "--save", kinds]) == 0
    assert names(tmp_path / "out") == ["0_color.png", "0_confidence.png", "0_labels.png", "0_overlay.jpg"]


def test_a_video_becomes_a_video(images: Path, segment: list[str], tmp_path: Path) -> None:
    assert main(["segment", str(images), *segment, "--save", "video"]) == 0
    video = tmp_path / "out" / "overlay.mp4"
    again = ["--out", str(tmp_path / "again"), "--frames", "2"]
    assert main(["segment", str(video), *segment, *again]) == 0
    assert names(tmp_path / "again") == ["overlay.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "again" / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_nothing_is_replaced_without_being_told(
    images: Path, segment: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "2_overlay.jpg").write_bytes(b"mine")
    assert main(["segment", str(images), *segment]) == 2
    assert "2_overlay.jpg is there already; give --overwrite" in capsys.readouterr().err
    # Said before the first image.
    assert names(out) == ["2_overlay.jpg"] and (out / "2_overlay.jpg").read_bytes() == b"mine"
    assert main(["segment", str(images), *segment, "--overwrite"]) == 0
    assert len(names(out)) == 6 and (out / "2_overlay.jpg").read_bytes() != b"mine"


def test_a_bad_file_is_named_and_passed_over(
    images: Path,
    segment: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (images / "1.png").write_bytes(b"no image")
    assert main(["segment", str(images), *segment]) == 2
    assert "1.png" in caplog.text
    said = capsys.readouterr().err
    assert f"1 of the 3 images of {images} could not be used, as said above; all others are done" in said
    assert len(names(tmp_path / "out")) == 4


def test_links_that_lead_nowhere_are_skipped(
    images: Path,
    segment: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (images / "broken.png").symlink_to("nothing.png")
    for name in ("circle.png", "circle.txt"):
        (images / name).symlink_to(name)
    assert main(["segment", str(images), *segment, "--save", "labels"]) == 2
    assert names(tmp_path / "out") == ["0_labels.png", "1_labels.png", "2_labels.png"]
    assert "skipped 'broken.png'" in caplog.text and "No such file" in caplog.text
    assert "skipped 'circle.png'" in caplog.text and "Too many levels of symbolic links" in caplog.text
    assert "1 other file is passed over (.txt)" in caplog.text
    assert "2 of the 5 images" in capsys.readouterr().err


def test_images_of_all_kinds_are_taken_and_other_files_are_counted(
    images: Path,
    segment: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = np.asarray(cv2.imread(str(images / "0.png")))
    for name in ("a.tif", "b.TIFF", "c.webp", "d.bmp"):
        cv2.imwrite(str(images / name), pixels)
    # 12 bits in 16, as a camera's: shown as the same picture.
    deep = images / "deep.tif"
    cv2.imwrite(str(deep), pixels.astype(np.uint16) << 4)
    (images / "notes.txt").write_text("by hand")
    (images / ".hidden").touch()
    (images / "folder").mkdir()
    assert main(["segment", str(images), *segment, "--save", "labels"]) == 0
    said = capsys.readouterr()
    assert "8 images segmented" in said.out
    assert "1 other file is passed over (.txt): names of images end with .bmp, " in caplog.text
    labels = {
        name: (tmp_path / "out" / f"{name}_labels.png").read_bytes() for name in ("0", "a", "b", "deep")
    }
    assert labels["0"] == labels["a"] == labels["b"] == labels["deep"]
    # Of numbers that are no light.
    cv2.imwrite(str(deep), pixels.astype(np.float32))
    assert main(["segment", str(deep), *segment, "--overwrite"]) == 2
    assert "its samples are float32; they must have 8 or 16 bits" in capsys.readouterr().err


def test_images_of_one_stem_keep_their_suffixes(images: Path, segment: list[str], tmp_path: Path) -> None:
    cv2.imwrite(str(images / "0.jpg"), np.zeros((120, 160, 3), np.uint8))
    assert main(["segment", str(images), *segment, "--save", "labels"]) == 0
    assert names(tmp_path / "out") == ["0.jpg_labels.png", "0.png_labels.png", "1_labels.png", "2_labels.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "'nowhere'"),
        (["{images}", "--save", "masks"], "--save has 'masks'; it takes labels, overlay, color"),
        (["{images}", "--frames", "0"], "--frames is 0; it must be 1 or more"),
        (["{images}", "--model", "nothing"], "unknown model 'nothing'"),
        (["/dev/video99"], "camera /dev/video99 cannot be opened"),
    ],
)
def test_bad_input_is_one_sentence(
    images: Path, segment: list[str], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(images=images) for argument in arguments]
    assert main(["segment", given[0], *segment, *given[1:]]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rt_seg")]
    assert len(error) == 1 and words in error[0]


def test_no_two_images_share_a_file(images: Path, segment: list[str], tmp_path: Path) -> None:
    for name in ("0.jpg", "0.jpg.png"):
        cv2.imwrite(str(images / name), np.zeros((120, 160, 3), np.uint8))
    assert main(["segment", str(images), *segment, "--save", "labels", "--overwrite"]) == 0
    stems = ["0.jpg", "0.jpg.png", "0.png", "1", "2"]
    assert names(tmp_path / "out") == sorted(f"{stem}_labels.png" for stem in stems)


def test_a_name_that_is_not_utf_8_is_as_good_as_another(
    images: Path, segment: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename(images / "2.png", os.fsencode(images) + b"/2\xe9.png")
    assert main(["segment", str(images), *segment, "--save", "labels"]) == 0
    assert names(tmp_path / "out") == ["0_labels.png", "1_labels.png", "2\\xe9_labels.png"]
    (tmp_path / "out" / "0_labels.png").unlink()
    (tmp_path / "out" / "1_labels.png").unlink()
    assert main(["segment", str(images), *segment, "--save", "labels"]) == 2
    assert "is there already" in capsys.readouterr().err
    # Said before the first image.
    assert names(tmp_path / "out") == ["2\\xe9_labels.png"]


def test_an_image_behind_a_bad_one_keeps_its_short_name(
    images: Path, segment: list[str], tmp_path: Path
) -> None:
    (images / "0.png").write_bytes(b"no image")
    for frames in ("2", f"1{400 * '0'}"):
        again = ["--save", "labels", "--overwrite", "--frames", frames]
        assert main(["segment", str(images), *segment, *again]) == 2
        assert names(tmp_path / "out") == ["1_labels.png", "2_labels.png"]


def test_a_video_keeps_its_rate(segment: list[str], tmp_path: Path) -> None:
    path = tmp_path / "slow.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 7, (64, 48))
    for level in range(3):
        writer.write(np.full((48, 64, 3), 80 * level, np.uint8))
    writer.release()
    assert main(["segment", str(path), *segment]) == 0
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 7


def test_the_bits_of_deep_images_can_be_said(images: Path, segment: list[str], tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    picture = cv2.imread(str(images / "0.png"))
    cv2.imwrite(str(deep / "0.png"), picture.astype(np.uint16) << 8)
    assert main(["segment", str(deep), *segment, "--save", "labels", "--image-bits", "16"]) == 0
    assert main(["segment", str(images), *segment[:-1], str(tmp_path / "plain"), "--save", "labels"]) == 0
    plain, found = (cv2.imread(str(tmp_path / out / "0_labels.png"), -1) for out in ("plain", "out"))
    assert (plain == found).mean() > 0.95


def test_a_file_in_the_place_of_the_folder_is_said_before_the_work(
    images: Path, segment: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["segment", str(images), *segment]) == 2
    assert f"--out is {tmp_path / 'out'}, which is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import cv2, numpy as np
import os
import signal
import subprocess
import sys
from pathlib import Path
from rt_segmentation.imaging.pictures import write_picture
from rt_segmentation.imaging.video import VideoWriter
picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
folder = Path(sys.argv[1])
try:
    write_picture(folder / "a.png", picture)
except OSError as error:
    print(error)
writer = VideoWriter(folder / "a.mp4", 10)
for shift in range(5):
    writer.write(np.roll(picture, shift))
try:
    writer.close()
except OSError as error:
    print(error)
"""


def test_what_a_full_disk_cannot_hold_has_no_name_and_is_said(tmp_path: Path) -> None:
    # A limit of a file's size stands for the disk.
    (tmp_path / "a.mp4").write_bytes(b"from before")
    (tmp_path / "a.png").write_bytes(b"from before")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"picture {tmp_path / 'a.png'} cannot be written: File too large" in done.stdout
    assert f"video {tmp_path / 'a.mp4'} cannot be written whole" in done.stdout
    assert names(tmp_path) == ["a.mp4", "a.png"]
    assert {(tmp_path / name).read_bytes() for name in names(tmp_path)} == {b"from before"}


def test_a_mask_that_cannot_be_written_ends_it_with_what_there_is(
    images: Path, segment: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "1_labels.png").mkdir(parents=True)
    assert main(["segment", str(images), *segment, "--save", "labels,video", "--overwrite"]) == 2
    said = capsys.readouterr()
    assert "2 images segmented" in said.out and f"; 2 files in {tmp_path / 'out'}" in said.out
    assert "1_labels.png cannot be written: Is a directory; stopped at image 1.png" in said.err
    assert names(tmp_path / "out") == ["0_labels.png", "1_labels.png", "overlay.mp4"]


@pytest.mark.parametrize(
    ("save", "images_done", "files"), [("labels,video", 3, "; 3 files in"), ("video", 1, "")]
)
def test_a_video_that_cannot_be_written_costs_no_mask(
    save: str,
    images_done: int,
    files: str,
    images: Path,
    segment: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rt_segmentation.imaging.video.SPARE_BYTES", 2**62)
    assert main(["segment", str(images), *segment, "--save", save]) == 2
    said = capsys.readouterr()
    assert f"{images_done} image" in said.out and ("files in" in said.out) == bool(files)
    assert files in said.out
    assert said.err.startswith(f"rt_seg segment: video {tmp_path / 'out' / 'overlay.mp4'} cannot be written:")
    assert ("stopped at image 0.png" in said.err) == (save == "video")
    assert names(tmp_path / "out") == [f"{i}_labels.png" for i in range(3)][: 3 if files else 0]


def test_ctrl_c_leaves_whole_files_and_says_so(
    images: Path,
    segment: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Path] = []

    def interrupted(path: Path, picture: np.ndarray) -> None:
        if len(written) == 2:
            # As Python does for SIGINT, which may be ignored where the tests run.
            raise KeyboardInterrupt
        written.append(path)
        write_picture(path, picture)

    monkeypatch.setattr("rt_segmentation.imaging.pictures.write_picture", interrupted)
    assert main(["segment", str(images), *segment, "--save", "labels,video"]) == 130
    said = capsys.readouterr()
    assert "2 files" not in said.out and "3 files in" in said.out and "interrupted" in said.err
    assert names(tmp_path / "out") == ["0_labels.png", "1_labels.png", "overlay.mp4"]
    capture = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nope.jpg", "no image, folder or video that exists"),
        ("notes.txt", "is not a video that OpenCV can read, and not an image, whose name ends with"),
    ],
)
def test_what_is_no_source_is_said(
    source: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    assert main(["segment", str(tmp_path / source), "--model", "enet"]) == 2
    assert sentence in capsys.readouterr().err


def test_weights_are_no_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "street", "--model", str(tmp_path / "w.safetensors")]) == 2
    assert "give the path of its manifest (.yaml)" in capsys.readouterr().err
