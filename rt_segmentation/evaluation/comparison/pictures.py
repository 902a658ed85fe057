"""The frames that changed most, side by side."""

from __future__ import annotations

import numpy as np

from rt_segmentation.evaluation.comparison.running import Compared
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.pictures import sheet
from rt_segmentation.imaging.render import overlay
from rt_segmentation.labels import IGNORE_ID, LabelSet

COUNT = 8
APART = 10
"""Frames nearer to one another than this show the same: the one that changed most stands for them."""
RIGHT_NOW, WRONG_NOW, OTHER = (40, 200, 60), (230, 40, 40), (240, 200, 40)


class MostChanged:
    """Keeps the frames that changed most, none of them near to another.

    Args:
        count: of them at most.
        apart: frames between two of them at least.
    """

    def __init__(self, count: int = COUNT, apart: int = APART) -> None:
        self._count, self._apart = count, apart
        self._kept: list[tuple[float, int, Compared]] = []
        self._number = 0

    def add(self, compared: Compared) -> None:
        """Look at the next frame."""
        number, self._number = self._number, self._number + 1
        entry = (compared.changed, number, compared)
        near = [kept for kept in self._kept if number - kept[1] < self._apart]
        if any(kept[0] >= entry[0] for kept in near):
            return
        self._kept = [kept for kept in self._kept if kept not in near]
        self._kept = sorted([*self._kept, entry], key=lambda kept: (-kept[0], kept[1]))[: self._count]

    @property
    def frames(self) -> list[Compared]:
        """The most changed one first."""
        return [compared for _, _, compared in self._kept if compared.changed > 0]


def comparison_picture(frames: list[Compared], labels: LabelSet) -> np.ndarray:
    """Image, truth where there is some, old and new labels, and where they differ; uint8 (H, W, 3) RGB.

    Where they differ: green where only the new ones are right, red where only the old ones were, yellow where
    neither is, or where there is no truth.
    """
    palette = labels.palette()
    with_truth = any(compared.truth is not None for compared in frames)
    rows = []
    for compared in frames:
        rgb = to_rgb(compared.frame)
        row = [(f"{compared.name}: {compared.changed:.1%} changed", rgb)]
        if with_truth:
            truth = np.full_like(compared.new, IGNORE_ID) if compared.truth is None else compared.truth
            row.append(("truth", overlay(rgb, truth, palette)))
        row += [("old", overlay(rgb, compared.old, palette)), ("new", overlay(rgb, compared.new, palette))]
        row.append(("green: right now, red: wrong now" if with_truth else "changed", _changes(rgb, compared)))
        rows.append(row)
    return sheet(rows, labels, columns_width=360)


def _changes(rgb: np.ndarray, compared: Compared) -> np.ndarray:
    picture = np.repeat((rgb.mean(2, keepdims=True) * 0.5).astype(np.uint8), 3, 2)
    changed = compared.old != compared.new
    picture[changed] = OTHER
    if compared.truth is not None:
        picture[changed & (compared.truth == IGNORE_ID)] = (90, 90, 90)
        picture[changed & (compared.new == compared.truth)] = RIGHT_NOW
        picture[changed & (compared.old == compared.truth) & (compared.truth != IGNORE_ID)] = WRONG_NOW
    return picture
