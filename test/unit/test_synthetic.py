"""The synthetic street: repeatable, moving, complete, and labelled to the pixel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rt_segmentation.data.synthetic import StreetClass, StreetScene

ROOT = Path(__file__).resolve().parents[2]


def digest(seed: int, time_s: float) -> str:
    rgb, labels = StreetScene(seed, 160, 120).render(time_s)
    return hashlib.sha256(rgb.tobytes() + labels.tobytes()).hexdigest()


def test_classes_are_camvids() -> None:
    names = [
        "SKY",
        "BUILDING",
        "POLE",
        "ROAD",
        "PAVEMENT",
        "TREE",
        "SIGN_SYMBOL",
        "FENCE",
        "CAR",
        "PEDESTRIAN",
        "BICYCLIST",
    ]
    assert [c.name for c in StreetClass] == names
    assert [int(c) for c in StreetClass] == list(range(11))


@pytest.mark.parametrize(
    ("width", "height"), [(64, 48), (65, 49), (333, 77), (99, 301), (480, 360), (640, 360), (1920, 1080)]
)
def test_shapes_and_types_at_any_size(width: int, height: int) -> None:
    rgb, labels = StreetScene(3, width, height).render(1.7)
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == np.uint8
    assert labels.shape == (height, width)
    assert labels.dtype == np.uint8
    assert labels.max() <= StreetClass.BICYCLIST
    assert {StreetClass.SKY, StreetClass.BUILDING, StreetClass.ROAD} <= set(np.unique(labels))


def test_the_same_frame_in_any_order() -> None:
    scene, other = StreetScene(5, 160, 120), StreetScene(5, 160, 120)
    times = [0.0, 4.2, 90.0, 4.25]
    forwards = [scene.render(t) for t in times]
    backwards = [other.render(t) for t in reversed(times)][::-1]
    for (rgb, labels), (rgb_again, labels_again) in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(rgb, rgb_again)
        np.testing.assert_array_equal(labels, labels_again)


def test_the_same_frame_in_another_process() -> None:
    code = (
        "import hashlib; from rt_segmentation.data.synthetic import StreetScene;"
        "rgb, labels = StreetScene(11, 160, 120).render(3.3);"
        "print(hashlib.sha256(rgb.tobytes() + labels.tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(11, 3.3)


def test_frames_belong_to_the_caller() -> None:
    scene = StreetScene(2, 96, 64)
    rgb, labels = scene.render(1.0)
    rgb_kept, labels_kept = rgb.copy(), labels.copy()
    scene.render(2.0)
    np.testing.assert_array_equal(rgb, rgb_kept)
    np.testing.assert_array_equal(labels, labels_kept)
    rgb[:], labels[:] = 0, 0
    np.testing.assert_array_equal(scene.render(1.0)[0], rgb_kept)


def test_seeds_differ() -> None:
    assert len({digest(seed, 0.0) for seed in range(6)}) == 6


def test_every_class_has_its_share() -> None:
    shares = []
    for seed in range(6):
        scene = StreetScene(seed, 240, 180)
        frames = [np.bincount(scene.render(3.1 * k)[1].ravel(), minlength=11) for k in range(8)]
        shares.append(np.mean(frames, axis=0) / (240 * 180))
    assert (np.mean(shares, axis=0) >= 0.003).all()
    assert (np.min(shares, axis=0) > 0).all()


def test_the_street_moves_smoothly() -> None:
    scene = StreetScene(4, 240, 180)
    start, soon, later = (scene.render(t)[1] for t in (10.0, 10.04, 12.0))
    little, much = (start != soon).mean(), (start != later).mean()
    assert 0 < little < 0.12
    assert much > 1.5 * little


def test_cars_move_on_their_own() -> None:
    """The car ahead keeps its place in the image while the street goes by."""
    scene = StreetScene(4, 240, 180)
    frames = np.stack([scene.render(0.8 * k)[1] for k in range(8)])
    ahead = (frames == StreetClass.CAR).all(axis=0)
    poles = (frames == StreetClass.POLE).all(axis=0)
    assert ahead.sum() > 20
    assert poles.sum() < ahead.sum()


def test_the_street_never_ends_and_forgets_what_is_behind() -> None:
    scene = StreetScene(7, 96, 72)
    for minute in range(0, 60, 5):
        labels = scene.render(60.0 * minute)[1]
        assert {StreetClass.SKY, StreetClass.BUILDING, StreetClass.ROAD, StreetClass.CAR} <= set(
            np.unique(labels)
        )
    assert len(scene._layout._chunks) <= 12


@pytest.mark.parametrize("seed", range(4))
def test_colour_edges_lie_on_label_edges(seed: int) -> None:
    """Colour changes most exactly where the label changes, not a pixel to any side of it."""
    rgb, labels = StreetScene(seed, 480, 360).render(2.0)
    for colour, classes in ((rgb, labels), (rgb.transpose(1, 0, 2), labels.T)):
        step = np.abs(np.diff(colour.astype(np.float32), axis=1)).sum(axis=2)
        edge = classes[:, 1:] != classes[:, :-1]
        inner = edge[:, 8:-8]
        across = {
            shift: step[:, 8 + shift : step.shape[1] - 8 + shift][inner].mean() for shift in range(-6, 7)
        }
        assert max(across, key=lambda shift: across[shift]) == 0
        assert across[0] > 2.0 * across[3]
        assert across[0] > 2.0 * across[-3]


def test_sky_is_above_and_road_below() -> None:
    labels = StreetScene(9, 240, 180).render(5.0)[1]
    rows = np.arange(180)[:, None] * np.ones((1, 240))
    assert rows[labels == StreetClass.SKY].max() < 0.55 * 180
    assert rows[labels == StreetClass.ROAD].min() > 0.4 * 180


@pytest.mark.parametrize(
    ("arguments", "said"), [((-1, 64, 48), "seed"), ((0, 63, 48), "63x48"), ((0, 64, 47), "64x47")]
)
def test_bad_arguments_are_named(arguments: tuple[int, int, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StreetScene(*arguments)
