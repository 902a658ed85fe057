"""Appearance: each change does what its name says, by the amount asked for, and off it does nothing."""

from __future__ import annotations

import colorsys
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.data.appearance import Appearance, hue_turn
from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.dataset import Sample

SEEDS = range(30)


def picture() -> np.ndarray:
    """Smooth colours between 60 and 190, uint8 (60, 80, 3)."""
    noise = np.random.default_rng(5).uniform(0, 255, (60, 80, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.asarray(cv2.normalize(smooth, None, 60, 190, cv2.NORM_MINMAX), np.uint8)  # type: ignore[call-overload]


def plain(level: int = 120) -> np.ndarray:
    return np.full((60, 80, 3), level, np.uint8)


def changed(image: np.ndarray, **amounts: Any) -> list[np.ndarray]:
    """One image for each seed."""
    return [Appearance(**amounts)(image, np.random.default_rng(seed)) for seed in SEEDS]


def test_off_draws_no_number_and_changes_nothing() -> None:
    image, rng = picture(), np.random.default_rng(1)
    before = rng.bit_generator.state
    np.testing.assert_array_equal(Appearance()(image, rng), image)
    assert rng.bit_generator.state == before


def test_a_frame_of_an_older_recipe_stays_bit_by_bit() -> None:
    """By the formula written down, with temporary arrays, as it was before there was an appearance."""
    augment = Augmentation(64, 48, rotation_deg=5, brightness=0.4, contrast=0.4, saturation=0.5)
    for seed in SEEDS:
        image = picture()
        out = augment(Sample(image, image[..., 0], ""), np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        (matrix,) = augment.sources_of_crops(np.array([(80, 60)]), rng)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(image, matrix, (64, 48), flags=flags, borderValue=(128,) * 3)
        brightness, contrast, saturation = (1 + rng.uniform(-1, 1, 3) * (0.4, 0.4, 0.5)).astype(np.float32)
        pixels = view.astype(np.float32)
        gray = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels = gray[..., None] + (pixels - gray[..., None]) * saturation
        pixels = (gray.mean() + (pixels - gray.mean()) * contrast) * brightness
        np.testing.assert_array_equal(out.image, np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", [field.name for field in fields(Appearance)])
def test_each_option_changes_a_copy_by_the_generator_alone(name: str) -> None:
    amount = {"hue_deg": 20.0, "blur": 2.0, "noise": 9.0, "jpeg": 20}.get(name, 0.5)
    image = picture()
    before = image.copy()
    first, again = changed(image, **{name: amount}), changed(image, **{name: amount})
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    differing = sum(not np.array_equal(out, before) for out in first)
    chances = name in ("shadow", "gray", "blur", "noise", "jpeg")
    assert (8 <= differing <= 22) if chances else differing >= 28
    assert all(out.dtype == np.uint8 and out.shape == image.shape for out in first)


def test_gamma_leaves_black_and_white_and_stays_in_its_range() -> None:
    ends = np.array([0, 255, 128], np.uint8).reshape(1, 3, 1).repeat(3, 2)
    outs = changed(ends, gamma=1.0)
    assert all((out[0, 0] == 0).all() and (out[0, 1] == 255).all() for out in outs)
    exponents = [np.log(out[0, 2, 0] / 255) / np.log(128 / 255) for out in outs]
    assert 0.49 < min(exponents) < 0.65 and 1.5 < max(exponents) < 2.05


def test_white_balance_is_a_gain_of_each_channel() -> None:
    gains = np.array([out[0, 0] / 120 for out in changed(plain(), white_balance=0.2)])
    assert 0.79 < gains.min() < 0.84 and 1.16 < gains.max() < 1.21
    assert np.ptp(gains, axis=1).mean() > 0.05


def test_hues_turn_by_the_angle_and_grays_stay() -> None:
    luma = np.array((0.299, 0.587, 0.114))
    np.testing.assert_allclose(np.linalg.matrix_power(hue_turn(30), 12), np.eye(3), atol=1e-9)
    for degrees in (-90.0, -7.0, 1.0, 30.0, 120.0):
        matrix = hue_turn(degrees)
        np.testing.assert_allclose(matrix @ np.ones(3), 1, atol=1e-5)
        np.testing.assert_allclose(luma @ matrix, luma, atol=1e-5)
        # HSV's hue, by another's code, of colours all around: on the average it turns by the same angle.
        turns = []
        for hue in np.arange(0, 1, 0.01):
            turned = colorsys.rgb_to_hsv(*(matrix @ colorsys.hsv_to_rgb(hue, 0.2, 0.5)))[0]
            turns.append(((turned - hue + 0.5) % 1 - 0.5) * 360)
        assert abs(np.mean(turns)) == pytest.approx(abs(degrees), abs=2)
    for out in changed(plain(), hue_deg=90.0):
        assert abs(out.astype(int) - 120).max() <= 1
    small = [out.astype(int) - picture() for out in changed(picture(), hue_deg=1.0)]
    assert any(difference.any() for difference in small), (
        "less than OpenCV's step of 2 degrees counts as well"
    )


def test_gray_has_no_colours() -> None:
    for out in changed(picture(), gray=1.0):
        assert (out == out[..., :1]).all()
        np.testing.assert_allclose(out[..., 0], cv2.cvtColor(picture(), cv2.COLOR_RGB2GRAY), atol=1)


def test_blur_takes_details_and_keeps_the_mean() -> None:
    image = np.random.default_rng(2).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    spreads = [out.std() / image.std() for out in changed(image, blur=2.0)]
    assert min(spreads) < 0.4 and max(spreads) == 1
    assert all(abs(out.mean() - image.mean()) < 1 for out in changed(image, blur=2.0))


def test_noise_has_the_deviation_and_no_bias() -> None:
    outs = [out.astype(float) - 120 for out in changed(plain(), noise=10.0)]
    deviations = [out.std() for out in outs]
    assert 7 < max(deviations) < 10.5 and min(deviations) == 0
    assert all(abs(out.mean()) < 0.5 for out in outs)


def test_jpeg_is_what_opencv_writes_of_this_picture() -> None:
    image = picture()
    file_names = {out.tobytes() for out in changed(image, jpeg=30)} - {image.tobytes()}
    written = set()
    for quality in range(30, 101):
        ok, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        assert ok
        written.add(np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]).tobytes())
    assert file_names and file_names <= written


def test_a_shadow_darkens_a_part() -> None:
    outs = [out[..., 0].astype(float) for out in changed(plain(), shadow=1.0)]
    for out in outs:
        assert out.max() <= 120 and out.min() >= 0.3 * 120 - 1
        assert out.min() <= 0.81 * 120 + 1
        assert 0.005 < (out < 119).mean() < 0.995
    assert np.mean([(out < 119).mean() for out in outs]) < 0.6


def test_a_vignette_darkens_the_corners_alone() -> None:
    corners = []
    for out in changed(plain(), vignette=0.5):
        assert abs(int(out[30, 40, 0]) - 120) <= 1
        corners.append(out[0, 0, 0] / 120)
        assert out[0, 0, 0] == pytest.approx(out[-1, -1, 0], abs=1)
    assert 0.49 < min(corners) < 0.6 and max(corners) > 0.9


def test_haze_grows_to_the_top() -> None:
    for out in changed(plain(20), haze=0.6):
        rows = out.mean((1, 2))
        assert (np.diff(rows) <= 0.01).all()
        assert rows[-1] == 20
        assert rows[0] <= 20 + 0.6 * 220 + 1
    assert max(out[0, 0, 0] for out in changed(plain(20), haze=0.6)) > 100


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"gamma": -0.1}, "gamma must not be below 0"),
        ({"haze": 1.5}, "haze must be from 0 to 1"),
        ({"hue_deg": 181.0}, "hue_deg must be from 0 to 180"),
        ({"jpeg": 101}, "jpeg a quality from 1 to 100"),
    ],
    ids=str,
)
def test_wrong_amounts_are_named(amounts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Appearance(**amounts)
