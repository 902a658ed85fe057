"""Whether a difference between models is more than noise: intervals by the paired block bootstrap.

Neighbouring frames show the same street, so frames are no independent samples. Blocks of consecutive bins
of time are drawn with replacement instead (Kuensch, 1989), n^(1/3) bins long for n bins (Hall, Horowitz and
Jing, 1995), and each draw takes the same blocks for all models, as they saw the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rt_segmentation.evaluation.bag.result import Comparison
from rt_segmentation.evaluation.bag.tally import Timeline
from rt_segmentation.evaluation.metrics import ConfusionMatrix

DRAWS = 1000
SEED = 0
LEVEL_PERCENT = (2.5, 97.5)
MIN_BLOCKS = 5
"""Of fewer blocks no interval is made: it would only look like one."""


def draw_mean_ious(timelines: Sequence[Sequence[Timeline]]) -> np.ndarray | None:
    """Mean IoU of each model in each draw.

    Args:
        timelines: of each model, one of each bag, in the same order.

    Returns:
        float64 (models, DRAWS); None where there are too few blocks with ground truth.
    """
    blocks = _blocks(timelines)
    if blocks.shape[1] < MIN_BLOCKS or not blocks.any():
        return None
    num_classes = blocks.shape[2]
    count = blocks.shape[1]
    weights = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), DRAWS)
    matrix = ConfusionMatrix(num_classes)
    scores = np.empty((len(blocks), DRAWS))
    for model, own in enumerate(blocks):
        # Sums of pixels stay far below 2^53: they are exact as floats, and multiply much faster.
        rows = own.reshape(count, -1).astype(np.float64)
        for draw in range(DRAWS):
            matrix.counts = (weights[draw] @ rows).reshape(num_classes, -1).astype(np.int64)
            scores[model, draw] = matrix.mean_iou()
    return scores


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The interval that holds 95 % of the samples, (low, high)."""
    low, high = np.nanpercentile(samples, LEVEL_PERCENT)
    return float(low), float(high)


def compare(names: Sequence[str], mean_ious: Sequence[float], draws: np.ndarray) -> list[Comparison]:
    """The difference of each pair of models, a minus b, with its interval.

    Args:
        names: of the models.
        mean_ious: theirs, on all frames.
        draws: from `draw_mean_ious`.
    """
    comparisons = []
    for a, b in combinations(range(len(names)), 2):
        low, high = interval(draws[a] - draws[b])
        comparisons.append(
            Comparison(
                names[a],
                names[b],
                difference=mean_ious[a] - mean_ious[b],
                interval=(low, high),
                significant=low > 0 or high < 0,
                method=f"paired block bootstrap of mean IoU, {DRAWS} draws",
            )
        )
    return comparisons


def _blocks(timelines: Sequence[Sequence[Timeline]]) -> np.ndarray:
    """Confusion counts of consecutive bins, int64 (models, blocks, n, n + 1); blocks end where a bag ends."""
    bags = list(zip(*timelines))
    occupied = [_bins_with_truth(bag) for bag in bags]
    length = max(1, round(sum(map(len, occupied)) ** (1 / 3)))
    blocks: list[list[np.ndarray]] = [[] for _ in timelines]
    for bag, numbers in zip(bags, occupied):
        for start in range(0, len(numbers), length):
            for own, timeline in zip(blocks, bag):
                total = np.zeros((timeline.num_classes, timeline.num_classes + 1), np.int64)
                for number in numbers[start : start + length]:
                    if number in timeline.bins:
                        total += timeline.bins[number].confusion
                own.append(total)
    size = timelines[0][0].num_classes if bags else 0
    return np.array(blocks, np.int64).reshape(len(timelines), -1, size, size + 1)


def _bins_with_truth(bag: Sequence[Timeline]) -> list[int]:
    return sorted({number for t in bag for number, counts in t.bins.items() if counts.labelled})
