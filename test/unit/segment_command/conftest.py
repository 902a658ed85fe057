"""Three images in a folder, and the options of `rt_seg segment` with a small model."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

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
