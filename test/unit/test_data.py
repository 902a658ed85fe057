"""Data sets and augmentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.dataset import DatasetError, Sample
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


def test_augmentation_moves_image_and_labels_together() -> None:
    # Each class has a gray of its own: after any scale, crop and mirror the two must still agree.
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 8, (6, 8)).astype(np.uint8)
    labels = blocks.repeat(16, 0).repeat(16, 1)
    image = (labels * 30)[..., None].repeat(3, 2)
    augment = Augmentation(64, 48, brightness=0, contrast=0, saturation=0)
    for seed in range(20):
        out = augment(Sample(image, labels, "x"), np.random.default_rng(seed))
        assert out.image.shape == (48, 64, 3)
        inside = out.labels != 255
        assert inside.mean() > 0.5
        difference = np.abs(out.image[..., 0].astype(int) - out.labels.astype(int) * 30)[inside]
        # Bilinear colours differ from nearest labels on the blocks' edges alone.
        assert (difference <= 1).mean() > 0.75


def test_augmentation_is_a_function_of_its_generator() -> None:
    sample = Street(1, 1, 9, 96, 64)[0]
    augment = Augmentation(48, 32)
    first, second = (augment(sample, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    other = augment(sample, np.random.default_rng(5))
    assert not np.array_equal(first.image, other.image)


def test_augmentation_scales_and_mirrors_exactly() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[:, :16] = 1
    sample = Sample(np.zeros((32, 32, 3), np.uint8), labels, "x")
    same = Augmentation(32, 32, min_scale=1.0, max_scale=1.0)
    seen = {same(sample, np.random.default_rng(seed)).labels[0, 0] for seed in range(10)}
    assert seen == {0, 1}, "both the frame and its mirror image must come"
