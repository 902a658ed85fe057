"""Intervals of intersections over union by the paired block bootstrap.

Neighbouring frames show the same street, so frames are no independent samples. Blocks of consecutive frames,
or of bins of time, are drawn with replacement instead (Kuensch, 1989), n^(1/3) long for n of them (Hall,
Horowitz and Jing, 1995), and each draw takes the same blocks for all models, as they saw the same frames.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

DRAWS = 1000
SEED = 0
LEVEL_PERCENT = (2.5, 97.5)
MIN_BLOCKS = 5
"""Of fewer blocks no interval is made: it would only look like one."""


def block_length(count: int) -> int:
    """Length of a block for so many frames or bins."""
    return max(1, round(math.pow(count, 1 / 3)))


def draw_class_ious(blocks: np.ndarray, ignored: Collection[int] = ()) -> np.ndarray | None:
    """IoU of each class of each model in each draw.

    Args:
        blocks: confusion counts as in `ConfusionMatrix`, int64 (models, blocks, n, n + 1).
        ignored: classes that are evaluated as unlabelled.

    Returns:
        float64 (models, DRAWS, n), NaN where a class is neither true nor predicted; None where there are too
        few blocks, or nothing is counted.
    """
    count = blocks.shape[1]
    if count < MIN_BLOCKS or not blocks.any():
        return None
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), DRAWS)
    # Sums of pixels stay far below 2^53: they are exact as floats, and multiply much faster.
    weights = draws.astype(np.float64)
    hits, unions = _hits_and_unions(blocks, ignored)
    return _ratios(weights @ hits, weights @ unions)


def class_ious(counts: np.ndarray, ignored: Collection[int] = ()) -> np.ndarray:
    """As `ConfusionMatrix.class_iou` for counts (..., n, n + 1): float64 (..., n)."""
    return _ratios(*_hits_and_unions(counts, ignored))


def _hits_and_unions(counts: np.ndarray, ignored: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Intersection and union of each class, float64 (..., n), 0 of those that are not evaluated.

    Both add up over blocks, as the counts do, and are n times fewer.
    """
    evaluated = np.array([i not in ignored for i in range(counts.shape[-2])])
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    false = np.where(evaluated[:, None], counts[..., :-1], 0).sum(-2)
    unions = counts.sum(-1) + false - hits
    return np.where(evaluated, hits, 0).astype(np.float64), np.where(evaluated, unions, 0).astype(np.float64)


def _ratios(hits: np.ndarray, unions: np.ndarray) -> np.ndarray:
    found = np.full(hits.shape, np.nan)
    np.divide(hits, unions, out=found, where=unions > 0)
    return found


def mean_ious(ious: np.ndarray) -> np.ndarray:
    """Means over the last axis of what is not NaN; NaN where all are."""
    known = ~np.isnan(ious)
    total, number = np.where(known, ious, 0).sum(-1), known.sum(-1)
    found = np.full(total.shape, np.nan)
    np.divide(total, number, out=found, where=number > 0)
    return found


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The interval that holds 95 % of the samples that are not NaN, (low, high)."""
    low, high = np.nanpercentile(samples, LEVEL_PERCENT)
    return float(low), float(high)
