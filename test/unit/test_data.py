"""Data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.data.street_dataset import DEMO_SEED, TRAINING_SEED, Street


def make_camvid(root: Path, images: str, labels: str) -> None:
    rng = np.random.default_rng(1)
    for folder in (images, labels):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(root / images / f"f{i}.png"), rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
        cv2.imwrite(str(root / labels / f"f{i}.png"), rng.integers(0, 12, (48, 64)).astype(np.uint8))


@pytest.mark.parametrize(("images", "labels"), [("val/images", "val/labels"), ("val", "valannot")])
def test_camvid_reads_both_layouts(tmp_path: Path, images: str, labels: str) -> None:
    make_camvid(tmp_path, images, labels)
    dataset = CamVid(tmp_path, "val")
    assert len(dataset) == 3
    sample = dataset[1]
    assert sample.name == "f1"
    bgr = cv2.imread(str(tmp_path / images / "f1.png"))
    assert bgr is not None
    np.testing.assert_array_equal(sample.image, bgr[..., ::-1])
    stored = cv2.imread(str(tmp_path / labels / "f1.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    np.testing.assert_array_equal(sample.labels, np.where(stored == 11, 255, stored))


def test_camvid_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train.labels or .*trainannot should exist"):
        CamVid(tmp_path, "train")
    make_camvid(tmp_path, "train/images", "train/labels")
    for name in ("f0.png", "f2.png"):
        (tmp_path / "train/labels" / name).unlink()
    with pytest.raises(DatasetError, match=r"lacks 2 labels: f0\.png, f2\.png"):
        CamVid(tmp_path, "train")


def test_camvid_names_a_wrong_id(tmp_path: Path) -> None:
    make_camvid(tmp_path, "train/images", "train/labels")
    cv2.imwrite(str(tmp_path / "train/labels/f0.png"), np.full((48, 64), 13, np.uint8))
    with pytest.raises(DatasetError, match=r"f0.png has id 13"):
        CamVid(tmp_path, "train")[0]


def test_demo_street_is_not_a_training_street() -> None:
    assert DEMO_SEED < TRAINING_SEED


def test_street_is_the_same_each_time() -> None:
    first, second = Street(2, 2, 5, 96, 64)[3], Street(2, 2, 5, 96, 64)[3]
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    with pytest.raises(IndexError):
        Street(2, 2, 5, 96, 64)[4]


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("scenes", 0, "scenes is 0, it must be an integer, 1 or more"),
        ("scenes", 1.5, "scenes is 1.5, it must be an integer"),
        ("scenes", "3", "scenes is '3', it must be an integer"),
        ("frames_per_scene", True, "frames_per_scene is True, it must be an integer, 1 or more"),
        ("first_seed", -5, "first_seed is -5, it must be an integer, 0 or more"),
        ("width", 8, "width is 8, it must be an integer, 64 to 7680"),
        ("height", 10**6, "height is 1000000, it must be an integer, 48 to 7680"),
    ],
)
def test_a_street_that_cannot_be_is_refused_before_it_is_rendered(
    argument: str, value: Any, said: str
) -> None:
    arguments: dict[str, Any] = {"scenes": 1, "frames_per_scene": 1, "first_seed": 5}
    with pytest.raises(DatasetError, match=f"the street's {said}"):
        Street(**{**arguments, argument: value})
