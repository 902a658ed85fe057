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
    bags = [_confusions(bag) for bag in zip(*timelines)]
    occupied = [sorted(set().union(*bag)) for bag in bags]
    length = block_length(sum(map(len, occupied)))
    size = timelines[0][0].num_classes if bags else 0
    blocks: list[list[np.ndarray]] = [[] for _ in timelines]
    for bag, numbers in zip(bags, occupied):
        for start in range(0, len(numbers), length):
            for own, confusions in zip(blocks, bag):
                total = np.zeros((size, size + 1), np.int64)
                for number in numbers[start : start + length]:
                    total += confusions.get(number, 0)
                own.append(total)
    return np.array(blocks, np.int64).reshape(len(timelines), -1, size, size + 1)


def _confusions(bag: Sequence[Timeline]) -> list[dict[int, np.ndarray]]:
    """Of each model the confusion counts of bins with ground truth, by numbers that mean the same times.

    A model that was interrupted has fewer bins, and they are narrower.
    """
    width_ns = max(timeline.width_ns for timeline in bag)
    found: list[dict[int, np.ndarray]] = []
    for timeline in bag:
        confusions: dict[int, np.ndarray] = {}
        for number, counts in timeline.bins.items():
            if counts.labelled:
                place = number * timeline.width_ns // width_ns
                confusions[place] = confusions.get(place, 0) + counts.confusion
        found.append(confusions)
    return found
