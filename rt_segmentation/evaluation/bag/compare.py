"""Whether a difference between models on bags is more than noise: see `evaluation.bootstrap`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rt_segmentation.evaluation.bag.result import Comparison
from rt_segmentation.evaluation.bag.tally import Timeline
from rt_segmentation.evaluation.bootstrap import (
    DRAWS,
    block_length,
    draw_class_ious,
    interval,
    mean_ious,
)


def draw_mean_ious(timelines: Sequence[Sequence[Timeline]]) -> np.ndarray | None:
    """Mean IoU of each model in each draw.

    Args:
        timelines: of each model, one of each bag, in the same order.

    Returns:
        float64 (models, DRAWS); None where there are too few blocks with ground truth.
    """
    ious = draw_class_ious(_blocks(timelines))
    return None if ious is None else mean_ious(ious)


def compare(names: Sequence[str], means: Sequence[float], draws: np.ndarray) -> list[Comparison]:
    """The difference of each pair of models, a minus b, with its interval.

    Args:
        names: of the models.
        means: their mean IoU, on all frames.
        draws: from `draw_mean_ious`.
    """
    comparisons = []
    for a, b in combinations(range(len(names)), 2):
        low, high = interval(draws[a] - draws[b])
        comparisons.append(
            Comparison(
                names[a],
                names[b],
                difference=means[a] - means[b],
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
    length = block_length(sum(map(len, occupied)))
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
