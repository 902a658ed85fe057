"""Augmentation: images and labels move together, by the amounts that were asked for."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.dataset import Sample

COLORS_STAY: dict[str, Any] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}


def blocks(height: int = 96, width: int = 128) -> Sample:
    """Each class has a gray of its own."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 8, (height // 16, width // 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    return Sample((labels * 30)[..., None].repeat(3, 2), labels, "blocks")


def points(sample: Sample) -> dict[int, np.ndarray]:
    """The middle (x, y) of each class's pixels."""
    found = {}
    for c in set(np.unique(sample.labels).tolist()) - {0, 255}:
        ys, xs = np.nonzero(sample.labels == c)
        found[c] = np.array((xs.mean(), ys.mean()))
    return found


def dots() -> Sample:
    """Five 5x5 dots of classes 1 to 5 around the middle of 200x200."""
    labels = np.zeros((200, 200), np.uint8)
    for c, (x, y) in enumerate(((100, 100), (130, 100), (100, 130), (70, 100), (100, 70)), 1):
        labels[y - 2 : y + 3, x - 2 : x + 3] = c
    return Sample(np.zeros((200, 200, 3), np.uint8), labels, "dots")


@pytest.mark.parametrize(
    "amounts",
    [{}, {"rotation_deg": 30.0}, {"shear_deg": 25.0}, {"fit": True, "rotation_deg": 15.0, "shear_deg": 10.0}],
    ids=str,
)
def test_image_and_labels_move_together(amounts: dict[str, Any]) -> None:
    augment = Augmentation(64, 48, **COLORS_STAY, **amounts)
    for seed in range(20):
        out = augment(blocks(), np.random.default_rng(seed))
        assert out.image.shape == (48, 64, 3) and out.labels.shape == (48, 64)
        inside = out.labels != 255
        assert inside.mean() > 0.4
        difference = np.abs(out.image[..., 0].astype(int) - out.labels.astype(int) * 30)[inside]
        # Bilinear colours differ from nearest labels on the blocks' edges alone.
        assert (difference <= 1).mean() > 0.7


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (100, 40)])
def test_fit_alone_is_a_resize_or_its_mirror_image(size: tuple[int, int]) -> None:
    sample = blocks()
    augment = Augmentation(*size, min_scale=1, max_scale=1, fit=True, **COLORS_STAY)
    expected = cv2.resize(sample.image, size, interpolation=cv2.INTER_LINEAR)
    seen = set()
    for seed in range(8):
        out = augment(sample, np.random.default_rng(seed))
        assert (out.labels != 255).all()
        mirrored = abs(out.image.astype(int) - expected).max() > 3
        seen.add(mirrored)
        assert abs(out.image.astype(int) - (expected[:, ::-1] if mirrored else expected)).max() <= 3
    assert seen == {False, True}


def test_scale_is_within_its_range() -> None:
    augment = Augmentation(400, 400, 0.5, 2.0, **COLORS_STAY)
    distances = []
    for seed in range(40):
        found = points(augment(dots(), np.random.default_rng(seed)))
        distances.append(np.linalg.norm(found[2] - found[1]) / 30)
    assert 0.47 < min(distances) < 0.6 and 1.7 < max(distances) < 2.05


def test_the_aspect_changes_within_its_range_and_the_area_stays() -> None:
    ratios, areas = [], []
    for seed in range(40):
        found = points(
            Augmentation(300, 300, 1, 1, aspect=0.5, **COLORS_STAY)(dots(), np.random.default_rng(seed))
        )
        wide, tall = np.linalg.norm(found[2] - found[4]), np.linalg.norm(found[3] - found[5])
        ratios.append(wide / tall)
        areas.append(wide * tall / 3600)
    assert 0.64 < min(ratios) < 0.75 and 1.35 < max(ratios) < 1.55
    np.testing.assert_allclose(areas, 1, atol=0.06)


def angles(augment: Augmentation) -> tuple[list[float], list[float]]:
    """Of many views the angles by which the horizontal and the vertical axis turned [degrees]."""
    horizontal, vertical = [], []
    for seed in range(40):
        found = points(augment(dots(), np.random.default_rng(seed)))
        x, y = found[2] - found[4], found[3] - found[5]
        x = x if x[0] > 0 else -x
        horizontal.append(math.degrees(math.atan2(x[1], x[0])))
        vertical.append(math.degrees(math.atan2(-y[0], y[1])))
    return horizontal, vertical


def test_rotation_turns_both_axes_alike() -> None:
    horizontal, vertical = angles(Augmentation(300, 300, 1, 1, rotation_deg=20, **COLORS_STAY))
    np.testing.assert_allclose(horizontal, vertical, atol=2)
    assert -21.5 < min(horizontal) < -12 and 12 < max(horizontal) < 21.5


def test_shear_slants_the_vertical_axis_alone() -> None:
    horizontal, vertical = angles(Augmentation(300, 300, 1, 1, shear_deg=20, **COLORS_STAY))
    np.testing.assert_allclose(horizontal, 0, atol=1)
    assert -21.5 < min(vertical) < -12 and 12 < max(vertical) < 21.5


def test_a_view_is_a_function_of_the_generator() -> None:
    augment = Augmentation(48, 32, rotation_deg=10, shear_deg=10)
    sample = blocks()
    before = sample.image.copy()
    first, second, other = (augment(sample, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert not np.array_equal(first.image, other.image)
    np.testing.assert_array_equal(sample.image, before)


def test_colours_change_within_their_range() -> None:
    sample = Sample(np.full((32, 32, 3), (200, 100, 50), np.uint8), np.zeros((32, 32), np.uint8), "x")
    plain: dict[str, Any] = {"min_scale": 1.0, "max_scale": 1.0, **COLORS_STAY}
    means = []
    for seed in range(30):
        augment = Augmentation(32, 32, **{**plain, "brightness": 0.2})
        out = augment(sample, np.random.default_rng(seed)).image
        means.append(out[..., 0].mean() / 200)
        assert out[0, 0, 1] == pytest.approx(out[0, 0, 0] / 2, abs=1)
    assert 0.79 < min(means) < 0.9 and 1.1 < max(means) < 1.21
    gray = Augmentation(32, 32, **{**plain, "saturation": 1.0})
    spreads = [
        np.ptp(gray(sample, np.random.default_rng(seed)).image[0, 0].astype(int)) for seed in range(30)
    ]
    assert min(spreads) < 40 and max(spreads) > 190
