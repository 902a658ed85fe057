"""`rt_seg segment` with images that a network cannot take: named, and no other is lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation.cli import main
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.engines.torch_engine import TorchEngine


def test_an_image_that_cannot_be_segmented_costs_no_other(
    images: Path,
    segment: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cv2.imwrite(str(images / "1.png"), np.zeros((31, 160, 3), np.uint8))
    assert main(["segment", str(images), *segment]) == 2
    assert "skipped '1.png' of 160x31: The image is 160x31 px; each side must be 32 to 7680 px" in caplog.text
    said = capsys.readouterr()
    assert said.out.startswith("2 images segmented by small on torch")
    assert f"1 of the 3 images of {images} could not be used, as said above" in said.err
    assert {path.name[0] for path in (tmp_path / "out").iterdir()} == {"0", "2"}


def test_an_engine_that_refuses_a_size_costs_no_other_size(
    images: Path,
    segment: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cv2.imwrite(str(images / "1.png"), np.zeros((240, 160, 3), np.uint8))
    cv2.imwrite(str(images / "1b.png"), np.zeros((240, 160, 3), np.uint8))
    infer = TorchEngine.infer
    refused = 0

    def refuse_tall(engine: TorchEngine, batch: np.ndarray, confidence: bool) -> object:
        nonlocal refused
        if batch.shape[1] > batch.shape[2]:
            refused += 1
            raise EngineError("engine 'torch' gives other labels")
        return infer(engine, batch, confidence)

    monkeypatch.setattr(TorchEngine, "infer", refuse_tall)
    assert main(["segment", str(images), *segment]) == 2
    assert "skipped '1.png' of 160x240: " in caplog.text and caplog.text.count("gives other labels") == 2
    # To build an engine takes seconds: it is not tried for each image.
    assert "skipped '1b.png' of 160x240: " in caplog.text and refused == 1
    assert {path.name[0] for path in (tmp_path / "out").iterdir()} == {"0", "2"}


def test_none_that_can_be_segmented_is_said_with_the_reason(
    segment: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    assert main(["segment", str(tmp_path / "dot.png"), *segment]) == 2
    assert "could be used; 'dot.png' of 1x1: The image is 1x1 px" in capsys.readouterr().err


def test_masks_do_not_go_among_the_images(
    images: Path, segment: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(images), *segment, "--out", f"{images}/../images"]) == 2
    assert "--out is the folder of the images" in capsys.readouterr().err
    assert len(list(images.iterdir())) == 3
    # Beside a single image they are in nobody's way.
    assert main(["segment", str(images / "1.png"), *segment, "--out", str(images)]) == 0
