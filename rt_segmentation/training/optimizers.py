"""Optimisers and learning-rate schedules, from a recipe."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from rt_segmentation.training.recipe import Optimizer, Recipe, Schedule

WARMUP_START = 0.04
"""Factor of the learning rate at the first step of a warm-up; 1 / 25, as OneCycleLR's of PyTorch."""


def configure(recipe: Recipe, network: nn.Module, steps: int) -> dict[str, Any]:
    """What Lightning's `configure_optimizers` returns: the optimiser, and the schedule by step.

    Args:
        recipe: its `optimizer`, `schedule` and `epochs` are used.
        network: whose parameters that need gradients are trained.
        steps: of the whole training, over which the schedule is spread.
    """
    optimizer = build_optimizer(recipe.optimizer, network)
    schedule = LambdaLR(optimizer, lambda step: factor(recipe.schedule, step, steps, recipe.epochs))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def build_optimizer(settings: Optimizer, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser; parameters of one dimension (biases, norms, slopes) decay where `decay_all` says so."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    decay = settings.weight_decay
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {
            "params": [p for p in parameters if p.ndim <= 1],
            "weight_decay": decay if settings.decay_all else 0.0,
        },
    ]
    rate = settings.learning_rate
    if settings.name in ("adam", "adamw"):
        kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
        # Fused: one pass over the parameters a step, where PyTorch's default makes a dozen.
        return kind(groups, rate, betas=settings.betas or (0.9, 0.999), fused=True)
    momentum = settings.momentum or 0.0
    if settings.name == "rmsprop":
        return torch.optim.RMSprop(groups, rate, momentum=momentum)
    return torch.optim.SGD(groups, rate, momentum=momentum)


def factor(schedule: Schedule, step: int, steps: int, epochs: int) -> float:
    """Factor of the learning rate at a step of a training of `steps` steps in `epochs` epochs.

    The warm-up rises from `WARMUP_START` to 1, 'one_cycle' as half a cosine, the others on a line; what is
    left of the steps falls as the schedule's name says. From step `steps` on it stays as it is.
    """
    warmup = schedule.warmup * steps
    if step < warmup:
        share = step / warmup
        risen = (1 - math.cos(math.pi * share)) / 2 if schedule.name == "one_cycle" else share
        return WARMUP_START + (1 - WARMUP_START) * risen
    done = min(1.0, (step - warmup) / max(1.0, steps - warmup))
    if schedule.name in ("one_cycle", "cosine"):
        return (1 + math.cos(math.pi * done)) / 2
    if schedule.name == "poly":
        assert schedule.power is not None
        return float((1 - done) ** schedule.power)
    if schedule.name == "step":
        assert schedule.every_epochs is not None and schedule.decay is not None
        return float(schedule.decay ** (step * epochs // (max(1, steps) * schedule.every_epochs)))
    return 1.0
