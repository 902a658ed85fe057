"""Frames mixed from two: amplitudes against whole Fourier transforms, and pasted pixels with their labels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.data.dataset import Sample
from rt_segmentation.data.mixing import Mixing, mix_amplitudes


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """Away from black and white, so that nothing is clipped."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.asarray(cv2.normalize(blurred, None, 90, 160, cv2.NORM_MINMAX), np.uint8)  # type: ignore[call-overload]


def by_whole_transforms(image: np.ndarray, other: np.ndarray, reach: int, share: float) -> np.ndarray:
    """Yang and Soatto's way: the centred two-dimensional spectrum, a square in its middle, and back."""
    height, width = image.shape[:2]
    ours, theirs = (np.fft.fft2(pixels.astype(np.float64), axes=(0, 1)) for pixels in (image, other))
    rows, columns = (np.abs(np.fft.fftfreq(n) * n).round() for n in (height, width))
    low = ((rows <= reach)[:, None] & (columns <= reach)[None])[..., None]
    amplitudes = np.where(low, (1 - share) * np.abs(ours) + share * np.abs(theirs), np.abs(ours))
    mixed = np.fft.ifft2(amplitudes * np.exp(1j * np.angle(ours)), axes=(0, 1))
    assert np.abs(mixed.imag).max() < 1e-6
    return np.asarray(mixed.real)


@pytest.mark.parametrize("size", [(40, 56), (41, 56), (40, 57), (41, 33)], ids=str)
@pytest.mark.parametrize("band", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_amplitudes_are_those_of_whole_transforms(size: tuple[int, int], band: float, share: float) -> None:
    image, other = smooth(1, *size), smooth(2, *size)
    expected = by_whole_transforms(image, other, max(1, int(band * min(size))), share)
    np.testing.assert_allclose(mix_amplitudes(image, other, band, share), expected.clip(0, 255), atol=0.51)
    if share == 0:
        np.testing.assert_array_equal(mix_amplitudes(image, other, band, share), image)


def test_a_brighter_frames_light_is_taken_over() -> None:
    dark, bright = smooth(1, 40, 56) // 2, smooth(2, 40, 56)
    mixed = mix_amplitudes(dark, bright, 0.05, 1.0)
    np.testing.assert_allclose(mixed.mean((0, 1)), bright.mean((0, 1)), atol=1)


def frames() -> tuple[Sample, Sample]:
    """Labels 0 to 5 and 255 against 3 to 9 and 255; each frame has a colour of its own."""
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 7, (24, 32)), rng.integers(3, 11, (24, 32))
    return (
        Sample(np.full((24, 32, 3), 10, np.uint8), np.where(first == 6, 255, first).astype(np.uint8), "own"),
        Sample(np.full((24, 32, 3), 90, np.uint8), np.where(second == 10, 255, second).astype(np.uint8), "b"),
    )


def mixed(mixing: Mixing, seed: int = 0) -> Sample:
    own, other = frames()
    return mixing(own, lambda: other, np.random.default_rng(seed))


def test_pasted_pixels_bring_their_labels_and_nothing_else_changes() -> None:
    own, other = frames()
    for seed in range(20):
        out = mixed(Mixing(paste=1.0), seed)
        pasted = out.image[..., 0] == 90
        assert (out.image == np.where(pasted, 90, 10)[..., None]).all()
        np.testing.assert_array_equal(out.labels, np.where(pasted, other.labels, own.labels))
        chosen = set(other.labels[pasted].tolist())
        # Half of the seven classes, whole, and never what is unlabelled.
        assert len(chosen) == 4 and 255 not in chosen
        np.testing.assert_array_equal(pasted, np.isin(other.labels, list(chosen)))
        assert out.name == "own"
    assert len({mixed(Mixing(paste=1.0), seed).labels.tobytes() for seed in range(20)}) > 5


def test_chosen_classes_alone_are_pasted() -> None:
    _, other = frames()
    out = mixed(Mixing(paste=1.0, paste_classes=(8, 9, 200)))
    np.testing.assert_array_equal(out.image[..., 0] == 90, np.isin(other.labels, (8, 9)))


def test_given_frames_stay_as_they_are() -> None:
    own, other = frames()
    Mixing(amplitude=1.0, paste=1.0)(own, lambda: other, np.random.default_rng(0))
    for frame, fresh in zip((own, other), frames()):
        np.testing.assert_array_equal(frame.image, fresh.image)
        np.testing.assert_array_equal(frame.labels, fresh.labels)


def test_what_is_off_draws_no_number_and_no_frame() -> None:
    own, _ = frames()

    def draw() -> Sample:
        raise AssertionError("no other frame is needed")

    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    assert Mixing()(own, draw, rng) is own
    assert rng.bit_generator.state == before
    # A chance that does not come true takes the numbers of the chances that are on, and no frame.
    rng, expected = np.random.default_rng(1), np.random.default_rng(1)
    Mixing(paste=1e-9)(own, draw, rng)
    expected.random()
    assert rng.bit_generator.state == expected.bit_generator.state


def test_chances_are_met() -> None:
    for mixing in (Mixing(paste=0.25), Mixing(amplitude=0.25)):
        count = sum(bool((mixed(mixing, seed).image != 10).any()) for seed in range(200))
        assert 30 <= count <= 70


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ({"paste": 1.5}, "chances and must be from 0 to 1"),
        ({"amplitude_band": 0.6}, "amplitude_band must be above 0"),
        ({"paste": 0.5, "paste_classes": (255,)}, "paste_classes are ids from 0 to 254"),
        ({"paste_classes": (2,)}, "paste is 0, which pastes nothing"),
    ],
    ids=str,
)
def test_wrong_amounts_are_named(amounts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixing(**amounts)
