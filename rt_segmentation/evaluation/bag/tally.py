"""Sums over the frames of a bag: integers only, so that they merge exactly in any order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt_segmentation.evaluation.bag.durations import Durations
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.evaluation.reliability import BINS, calibration_error

BIN_NS = 50_000_000
"""The width of the first bins of time, before any doubling [ns]."""
DURATIONS = ("latency", "inference", "age")
ARRAYS = ("confusion", "pixels", "calibration")


class Counts:
    """What is summed over frames, in one bin of time or in all.

    Attributes:
        received: frames in the bag; each is segmented or dropped.
        segmented, labelled: frames with a mask; of these, frames with a labelled pixel.
        dropped: frames without a mask, by reason.
        latency: from a frame's arrival to its mask.
        inference: of the engine alone.
        age: how old each mask was when the next one came (peak age of information).
        confusion: int64 (n, n + 1), as in `ConfusionMatrix.counts`.
        pixels: predicted pixels by class, int64 (n + 1,); the last are of no class.
        confidence_sum, confidence_pixels: of the confidences x 255, where they were computed.
        calibration: of the labelled pixels, as in `Reliability.sums`.
        same_pixels, compared_pixels: pixels with the label of the mask before, out of those compared.
    """

    def __init__(self, num_classes: int) -> None:
        self.received = self.segmented = self.labelled = 0
        self.confidence_sum = self.confidence_pixels = 0
        self.same_pixels = self.compared_pixels = 0
        self.dropped: Counter[str] = Counter()
        self.latency, self.inference, self.age = Durations(), Durations(), Durations()
        self.confusion = np.zeros((num_classes, num_classes + 1), np.int64)
        self.pixels = np.zeros(num_classes + 1, np.int64)
        self.calibration = np.zeros((3, BINS), np.int64)

    def add(self, other: Counts) -> None:
        """Add another's counts, exactly."""
        for name, value in vars(other).items():
            if isinstance(value, Durations):
                getattr(self, name).add(value)
            elif isinstance(value, Counter):
                self.dropped.update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def matrix(self) -> ConfusionMatrix:
        """The confusion matrix, for its scores."""
        matrix = ConfusionMatrix(len(self.confusion))
        matrix.counts = self.confusion
        return matrix

    def mean_iou(self) -> float | None:
        """Mean IoU; None without ground truth."""
        return self.matrix().mean_iou() if self.confusion.any() else None

    def shares(self) -> list[float]:
        """Share of the predicted pixels by class; zeros without any."""
        return [float(count / max(self.pixels.sum(), 1)) for count in self.pixels[:-1]]

    def confidence(self) -> float | None:
        """Mean confidence of the pixels, 0 to 1; None where it was not computed."""
        return self.confidence_sum / self.confidence_pixels / 255 if self.confidence_pixels else None

    def calibration_error(self) -> float | None:
        """The expected calibration error; None without confidence or ground truth."""
        return calibration_error(self.calibration) if self.calibration.any() else None

    def consistency(self) -> float | None:
        """Share of the pixels with the same label as in the mask before; None without a mask before."""
        return self.same_pixels / self.compared_pixels if self.compared_pixels else None

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        plain = dict(vars(self))
        plain.update({name: plain[name].tolist() for name in ARRAYS})
        plain.update({name: plain[name].to_plain() for name in DURATIONS})
        return {**plain, "dropped": dict(self.dropped)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Counts:
        """The inverse of `to_plain`."""
        counts = cls(len(plain["confusion"]))
        vars(counts).update(plain)
        vars(counts).update({name: np.array(plain[name], np.int64) for name in ARRAYS})
        vars(counts).update({name: Durations.from_plain(plain[name]) for name in DURATIONS})
        counts.dropped = Counter(plain["dropped"])
        return counts


@dataclass
class Timeline:
    """Counts by bins of the bag's time; when there are too many, pairs become one of double width.

    So the memory does not grow with the bag, and the bins depend on the frames alone.

    Attributes:
        num_classes: of the counts.
        max_bins: the most bins with frames that are kept.
        width_ns: of a bin.
        bins: by number; bin i holds the times from i to i + 1 widths after the bag's start.
    """

    num_classes: int
    max_bins: int
    width_ns: int = BIN_NS
    bins: dict[int, Counts] = field(default_factory=dict)

    def add(self, time_ns: int, counts: Counts) -> None:
        """Add the counts of a frame at a time since the bag's start [ns]."""
        number = time_ns // self.width_ns
        if number not in self.bins:
            self.bins[number] = Counts(self.num_classes)
        self.bins[number].add(counts)
        while len(self.bins) > self.max_bins:
            self._double()

    def total(self) -> Counts:
        """The sum of all bins."""
        total = Counts(self.num_classes)
        for counts in self.bins.values():
            total.add(counts)
        return total

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        bins = {str(number): counts.to_plain() for number, counts in self.bins.items()}
        return {**vars(self), "bins": bins}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Timeline:
        """The inverse of `to_plain`."""
        bins = {int(number): Counts.from_plain(counts) for number, counts in plain["bins"].items()}
        return cls(**{**plain, "bins": bins})

    def _double(self) -> None:
        old, self.bins, self.width_ns = self.bins, {}, 2 * self.width_ns
        for number, counts in old.items():
            if number // 2 in self.bins:
                self.bins[number // 2].add(counts)
            else:
                self.bins[number // 2] = counts
