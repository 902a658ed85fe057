"""`rt_seg segment`: what it writes, what it never replaces, and what it says of bad input."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation.api import Segmenter
from rt_segmentation.cli import main
from rt_segmentation.data.dataset import read_rgb
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.models import ModelManifest


@pytest.fixture()
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    scene = StreetScene(1, 160, 120)
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), scene.render(number)[0][..., ::-1])
    return folder


@pytest.fixture()
def segment(small_model: ModelManifest, tmp_path: Path) -> list[str]:
    return ["--model", str(small_model.path), "--engine", "torch", "--out", str(tmp_path / "out")]


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
    assert main(["segment", str(images), *segment]) == 0
    assert "1.png" in caplog.text and "1 file could not be read" in capsys.readouterr().out
    assert len(names(tmp_path / "out")) == 4


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
