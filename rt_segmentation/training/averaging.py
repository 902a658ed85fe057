"""Averaged weights: what is measured and stored where a recipe has `ema` or `swa`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from rt_segmentation.training.recipe import Recipe


class RunningAverage(WeightAveraging):
    """A running average of weights and batch norm's statistics, updated after each step.

    Lightning validates with the average, and saves it beside the weights in each checkpoint.

    Args:
        share: of the new weights in the average, by the number of steps before.
    """

    def __init__(self, share: Callable[[int], float]) -> None:
        def update(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
            new = share(int(steps))
            mixed: tuple[list[Tensor], list[Tensor]] = ([], [])
            for average, value in zip(averages, values):
                if new < 1 and average.is_floating_point():
                    mixed[0].append(average)
                    mixed[1].append(value)
                else:
                    average.copy_(value)
            if mixed[0]:
                # Hundreds of tensors: on a GPU, to start a kernel for each takes as long as the step.
                torch._foreach_lerp_(*mixed, new)

        super().__init__(multi_avg_fn=update)


def averaging(recipe: Recipe, steps: int) -> list[RunningAverage]:
    """Make the callback of a recipe's average for a training of `steps` steps; none without an average."""
    if recipe.ema:
        return [RunningAverage(lambda step: exponential_share(recipe.ema, step))]
    if recipe.swa:
        start = steps - max(1, round(recipe.swa * steps))
        return [RunningAverage(lambda step: tail_share(start, step))]
    return []


def exponential_share(decay: float, step: int) -> float:
    """Share of the new weights in an exponential moving average.

    The first decays are smaller, min(decay, (1 + n) / (10 + n)) after n steps, so that the random start is
    soon forgotten (as TensorFlow's ExponentialMovingAverage does).
    """
    return 1 - min(decay, (1 + step) / (10 + step))


def tail_share(start: int, step: int) -> float:
    """Share of the new weights in the plain mean since step `start` (SWA; Izmailov et al., 2018).

    Before, it is 1: the average is the weights themselves.
    """
    return 1 / (max(0, step - start) + 1)
