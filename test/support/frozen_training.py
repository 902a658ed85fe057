"""Trains a recipe with batch norm frozen and without dropout: torchrun starts it, as several processes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from rt_segmentation.training.machine import Machine
from rt_segmentation.training.recipe import load_recipe
from rt_segmentation.training.run import Training, train


class FrozenTraining(Training):
    """In eval mode batch norm uses its averages, and dropout passes all on."""

    @classmethod
    def prepare(cls, *arguments) -> Training:  # type: ignore[no-untyped-def]
        training = Training.prepare(*arguments)
        training.module.network.eval()
        return training


if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe, out = sys.argv[1:]
    sys.modules[train.__module__].Training = FrozenTraining  # type: ignore[attr-defined]
    train(load_recipe(recipe), None, Path(out), Machine.here("fp32", workers=0))
