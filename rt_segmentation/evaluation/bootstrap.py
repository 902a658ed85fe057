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
    models, count, classes, columns = blocks.shape
    if count < MIN_BLOCKS or not blocks.any():
        return None
    weights = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), DRAWS)
    # Sums of pixels stay far below 2^53: they are exact as floats, and multiply much faster.
    rows = blocks.reshape(models, count, classes * columns).astype(np.float64)
    drawn = (weights.astype(np.float64) @ rows).reshape(models, DRAWS, classes, columns)
    return class_ious(drawn, ignored)


def class_ious(counts: np.ndarray, ignored: Collection[int] = ()) -> np.ndarray:
    """As `ConfusionMatrix.class_iou` for counts (..., n, n + 1): float64 (..., n)."""
    evaluated = np.array([i not in ignored for i in range(counts.shape[-2])])
    kept = np.where(evaluated[:, None], counts, 0).astype(np.float64)
    hits = np.diagonal(kept, axis1=-2, axis2=-1)
    union = kept.sum(-1) + kept[..., :-1].sum(-2) - hits
    found = np.full(hits.shape, np.nan)
    np.divide(hits, union, out=found, where=evaluated & (union > 0))
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
