"""Does the confidence mean what it says? Of pixels with 0.9, nine in ten should be right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rt_segmentation.labels import IGNORE_ID

BINS = 15


class Reliability:
    """How often pixels of each confidence are right, over any number of frames.

    The error is the expected calibration error of Guo et al., 2017 (On Calibration of Modern Neural
    Networks), with 15 bins of equal width.
    """

    def __init__(self) -> None:
        self._total = np.zeros(256, np.int64)
        self._right = np.zeros(256, np.int64)

    def update(self, confidence: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Count a frame's labelled pixels.

        Args:
            confidence: top-1 probability x 255, uint8 (H, W).
            predicted: class ids, uint8 (H, W).
            truth: class ids, uint8 (H, W); pixels of 255 are left out.

        Raises:
            ValueError: the shapes differ.
        """
        if not confidence.shape == predicted.shape == truth.shape:
            raise ValueError(
                f"confidence is {confidence.shape}, labels are {predicted.shape}, truth is {truth.shape};"
                " they must have one shape"
            )
        counted = truth != IGNORE_ID
        self._total += np.bincount(confidence[counted], minlength=256)
        self._right += np.bincount(confidence[counted & (predicted == truth)], minlength=256)

    def sums(self) -> np.ndarray:
        """Pixels, confidences x 255 and right pixels, summed by bin: int64 (3, BINS), to be added up."""
        values = np.arange(256)
        # Bins are open below and closed above, as Guo et al. have them; 0 belongs to the first.
        bins = np.clip(np.ceil(values / 255 * BINS).astype(int) - 1, 0, BINS - 1)
        sums = np.zeros((3, BINS), np.int64)
        for row, counts in zip(sums, (self._total, self._total * values, self._right)):
            np.add.at(row, bins, counts)
        return sums

    def error(self) -> float:
        """The expected calibration error, 0 to 1; NaN before a labelled pixel."""
        return calibration_error(self.sums())


def calibration_error(sums: np.ndarray) -> float:
    """The expected calibration error of `Reliability.sums`, 0 to 1; NaN before a labelled pixel."""
    total, claimed, right = sums
    return float(np.abs(right - claimed / 255).sum() / total.sum()) if total.sum() else float("nan")


def lowest(function: Callable[[float], float], low: float, high: float, steps: int = 40) -> float:
    """Where a function with one valley in low to high is lowest, by golden sections."""
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The number to divide logits by, so that their softmax has the least negative log-likelihood.

    Temperature scaling of Guo et al., 2017, Section 4.2: it changes no label.

    Args:
        logits: float32 (N, C).
        truth: class ids, uint8 (N,), none of them 255.

    Returns:
        From 0.2 to 5.

    Raises:
        ValueError: there are no pixels.
    """
    if not len(truth):
        raise ValueError("no labelled pixel: a temperature cannot be fitted")
    below_top = logits.astype(np.float32) - logits.max(1, keepdims=True)
    chosen = below_top[np.arange(len(truth)), truth].astype(np.float64)

    def loss(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        return float(
            np.log(np.exp(below_top / np.float32(temperature)).sum(1)).mean() - chosen.mean() / temperature
        )

    return float(np.exp(lowest(loss, np.log(0.2), np.log(5.0))))
