"""Colours and overlays against plain NumPy formulas."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from rt_segmentation.imaging.pictures import drawable, legend, legend_table
from rt_segmentation.imaging.render import colorize, overlay
from rt_segmentation.labels import LabelClass, LabelSet

RNG = np.random.default_rng(11)
PALETTE = RNG.integers(0, 256, (256, 3), np.uint8)
LABELS = RNG.integers(0, 256, (37, 53), np.uint8)
LABELS[5:20, 10:30] = 255
RGB = RNG.integers(0, 256, (37, 53, 3), np.uint8)


def test_every_id_gets_its_colour_in_rgb_order() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(colorize(labels, PALETTE), PALETTE.reshape(16, 16, 3))


def test_colorize_writes_into_the_buffer() -> None:
    out = np.zeros((37, 53, 3), np.uint8)
    assert colorize(LABELS, PALETTE, out) is out
    assert np.array_equal(out, PALETTE[LABELS])


def test_colorize_takes_a_part_of_a_larger_image_and_palette() -> None:
    wide = np.repeat(PALETTE, 2, 0)
    assert np.array_equal(colorize(LABELS[3:30, 4:40], wide[::2]), PALETTE[LABELS[3:30, 4:40]])


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
def test_overlay_blends_all_but_the_unlabelled(opacity: float) -> None:
    blend = (1 - opacity) * RGB + opacity * PALETTE[LABELS].astype(float)
    reference = np.where((LABELS == 255)[..., None], RGB, blend)
    rgb, labels = RGB.copy(), LABELS.copy()
    result = overlay(rgb, labels, PALETTE, opacity)
    assert np.abs(result - reference).max() <= 0.51
    assert np.array_equal(result[LABELS == 255], RGB[LABELS == 255])
    assert np.array_equal(rgb, RGB)
    assert np.array_equal(labels, LABELS)


def test_overlay_writes_into_the_buffer() -> None:
    out = np.zeros_like(RGB)
    assert overlay(RGB, LABELS, PALETTE, 0.4, out) is out
    assert np.array_equal(out, overlay(RGB, LABELS, PALETTE, 0.4))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"palette is uint8 of shape \(12, 3\); it must be uint8 \(256, 3\)"):
        colorize(LABELS, PALETTE[:12])
    with pytest.raises(ValueError, match=r"of shape \(37, 53, 3\)"):
        colorize(LABELS, PALETTE, np.zeros((53, 37, 3), np.uint8))
    with pytest.raises(ValueError, match="must be the same"):
        overlay(RGB[1:], LABELS, PALETTE, 0.5)
    with pytest.raises(ValueError, match=r"opacity is 1\.5; it must be from 0 to 1"):
        overlay(RGB, LABELS, PALETTE, 1.5)
    with pytest.raises(ValueError, match="buffer of its own"):
        overlay(RGB, LABELS, PALETTE, 0.5, RGB)


def test_names_are_drawn_without_question_marks_where_it_can_be() -> None:
    assert drawable("Straße, vélo, łódź, Ærø") == "Strasse, velo, lodz, Aero"
    # As a Mac writes them, and what has no like.
    assert drawable("ve\u0301lo 道路") == "velo ??"
    classes = tuple(LabelClass(i, name, (i, i, i)) for i, name in enumerate(("vélo", "道路")))

    def written(*names: str) -> np.ndarray:
        same = tuple(replace(c, name=name) for c, name in zip(classes, names))
        return np.hstack(
            [cv2.resize(f(LabelSet("x", same)), (300, 60)) for f in (legend_table, lambda s: legend(s, 300))]
        )

    assert np.array_equal(written("vélo", "道路"), written("velo", "class 1"))
    assert not np.array_equal(written("vélo", "道路"), written("velo", "class 2"))
