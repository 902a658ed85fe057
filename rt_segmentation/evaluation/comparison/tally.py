"""What two models' labels add up to: intersections over union with intervals, agreement, and times."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rt_segmentation.evaluation.bootstrap import (
    MIN_BLOCKS,
    block_length,
    class_ious,
    draw_class_ious,
    interval,
    mean_ious,
)
from rt_segmentation.evaluation.comparison.running import Compared
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.labels import LabelSet

Verdict = Literal["better", "worse", "noise", "unknown"]
MAX_UNITS, FEWEST_UNITS = 2048, 64
"""Counts of so many frames, or pairs of them and so on, are kept apart; of many classes fewer."""
UNITS_BYTES = 64 * 2**20
MIN_FLOW = 0.01
"""Share of the pixels of a class that must have become another one to be told."""
FLOWS = 10


@dataclass(frozen=True)
class Change:
    """What became of a score.

    Attributes:
        name: of the class, or 'mean IoU'.
        old, new: intersections over union, 0 to 1; NaN where the class does not occur.
        interval: that holds 95 % of the bootstrap's draws of the difference; None with too few frames.
    """

    name: str
    old: float
    new: float
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float:
        """New minus old."""
        return self.new - self.old

    @property
    def verdict(self) -> Verdict:
        """'noise' where the interval holds 0, 'unknown' without one."""
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "noise"

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return {
            "name": self.name,
            "old": self.old,
            "new": self.new,
            "difference": self.difference,
            "interval": None if self.interval is None else list(self.interval),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Flow:
    """Pixels of an old label that have another one now, and their share of the old one's."""

    old: str
    new: str
    share: float
    pixels: int


class Tally:
    """Sums over frames; memory does not grow with their number.

    Args:
        label_set: of the labels.
        ignored: classes that are evaluated as unlabelled.

    Attributes:
        frames: number of frames.
        labelled: number of those with a labelled pixel of a class that is evaluated.
        old_ms, new_ms: time of each frame [ms].
    """

    def __init__(self, label_set: LabelSet, ignored: Collection[int] = ()) -> None:
        self.label_set, self._ignored = label_set, frozenset(ignored)
        self.frames = self.labelled = 0
        self.old_ms: list[float] = []
        self.new_ms: list[float] = []
        self._size = len(label_set.classes)
        # Old labels by row, with one more row for what is no class, new ones by column.
        self._agreement = np.zeros((self._size + 1, self._size + 1), np.int64)
        # Of each recording, confusion counts of both models of consecutive frames.
        self._recordings: list[list[np.ndarray]] = [[]]
        self._unit, self._in_unit = 1, 0
        unit_bytes = 2 * 8 * self._size * (self._size + 1)
        self._most_units = min(MAX_UNITS, max(FEWEST_UNITS, UNITS_BYTES // unit_bytes))

    def begin_recording(self) -> None:
        """The next frame does not follow the last one: no block reaches from one to the other."""
        if self._recordings[-1]:
            self._recordings.append([])
        self._in_unit = 0

    def add(self, compared: Compared) -> None:
        """Count a frame.

        Raises:
            ValueError: the truth has another size than the labels, or an id that is no class.
        """
        self.frames += 1
        self.old_ms.append(compared.old_ms)
        self.new_ms.append(compared.new_ms)
        old, new = (
            np.minimum(labels, self._size).astype(np.int64) for labels in (compared.old, compared.new)
        )
        index = old * (self._size + 1) + new
        counts = np.bincount(index.ravel(), minlength=self._agreement.size)
        self._agreement += counts.reshape(self._agreement.shape)
        if compared.truth is None:
            return
        both = []
        for labels in (compared.old, compared.new):
            matrix = ConfusionMatrix(self._size, self._ignored)
            matrix.update(compared.truth, labels)
            both.append(matrix)
        self.labelled += both[0].labelled
        self._keep(np.stack([matrix.counts for matrix in both]))

    def changes(self) -> tuple[Change, list[Change]]:
        """The mean IoU, and each class that is evaluated; NaN where there is no ground truth."""
        blocks = self._blocks()
        total = blocks.sum(1)
        ious = class_ious(total, self._ignored)
        drawn = draw_class_ious(blocks, self._ignored)
        # Blocks in which a class is true: an interval from one or two of them would only look like one.
        seen = (blocks[0].sum(2) > 0).sum(0)
        classes = []
        for i, name in enumerate(self.label_set.names):
            if i not in self._ignored:
                enough = drawn is not None and seen[i] >= MIN_BLOCKS and np.isfinite(ious[:, i]).all()
                found = interval(drawn[1, :, i] - drawn[0, :, i]) if enough and drawn is not None else None
                classes.append(Change(name, float(ious[0, i]), float(ious[1, i]), found))
        means = mean_ious(ious)
        of_mean = None if drawn is None else interval(mean_ious(drawn[1]) - mean_ious(drawn[0]))
        return Change("mean IoU", float(means[0]), float(means[1]), of_mean), classes

    def agreement(self) -> float:
        """Share of the pixels with the same label from both, 0 to 1; NaN without frames."""
        total = self._agreement.sum()
        return float(np.diagonal(self._agreement).sum() / total) if total else float("nan")

    def flows(self) -> list[Flow]:
        """What became of what: the largest shares of a class's pixels that are another class's now."""
        names = [*self.label_set.names, "no class"]
        found: list[Flow] = []
        for i, row in enumerate(self._agreement):
            for j, count in enumerate(row):
                if i != j and count and count / row.sum() >= MIN_FLOW:
                    found.append(Flow(names[i], names[j], float(count / row.sum()), int(count)))
        return sorted(found, key=lambda flow: -flow.pixels)[:FLOWS]

    def _keep(self, counts: np.ndarray) -> None:
        units = self._recordings[-1]
        if self._in_unit and units:
            units[-1] += counts
        else:
            units.append(counts)
        self._in_unit = (self._in_unit + 1) % self._unit
        if sum(map(len, self._recordings)) > self._most_units:
            self._recordings = [_pairs(units) for units in self._recordings]
            self._unit *= 2
            self._in_unit = 0

    def _blocks(self) -> np.ndarray:
        """Counts of blocks of consecutive frames, int64 (2, blocks, n, n + 1)."""
        length = block_length(sum(map(len, self._recordings)))
        blocks = [
            np.sum(units[i : i + length], 0)
            for units in self._recordings
            for i in range(0, len(units), length)
        ]
        if not blocks:
            return np.zeros((2, 0, self._size, self._size + 1), np.int64)
        return np.stack(blocks, 1)


def _pairs(units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Neighbours added up."""
    return [np.sum(units[i : i + 2], 0) for i in range(0, len(units), 2)]
