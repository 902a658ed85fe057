"""Averaged weights: what is measured and stored where a recipe has `ema`."""

from __future__ import annotations

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class ExponentialAverage(WeightAveraging):
    """Exponential moving average of weights and batch norm's statistics, updated after each step.

    Lightning validates with the average, and saves it beside the weights in each checkpoint.

    Args:
        decay: of the average in a step. The first ones are smaller, min(decay, (1 + n) / (10 + n)) after n
            steps, so that the random start is soon forgotten (as TensorFlow's ExponentialMovingAverage does).
    """

    def __init__(self, decay: float) -> None:
        def update(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
            n = int(steps)
            share = 1 - min(decay, (1 + n) / (10 + n))
            for average, value in zip(averages, values):
                if average.is_floating_point():
                    average.lerp_(value, share)
                else:
                    average.copy_(value)

        super().__init__(multi_avg_fn=update)
