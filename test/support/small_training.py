"""Trainings of a second or two on a synthetic street, and what they leave."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
import yaml

from rt_segmentation.training.machine import Machine
from support.small_network import SMALL
from support.tiny_recipe import RECIPE

SMALLEST = {"width": 32, "height": 32}
"""A crop of which LinkNet's encoder leaves one pixel."""


def street(scenes: int, first_seed: int, frames_per_scene: int = 1) -> dict[str, Any]:
    size = {"width": 96, "height": 64}
    return {
        "dataset": "street",
        "scenes": scenes,
        "frames_per_scene": frames_per_scene,
        "first_seed": first_seed,
        **size,
    }


def write_recipe(folder: Path, **changes: Any) -> Path:
    """A recipe of 3 steps an epoch, with dropout and augmentation."""
    recipe = {
        **RECIPE,
        "network": SMALL,
        "train": [street(2, 1000, 6)],
        "validation": street(1, 50, 3),
        "augmentation": {"width": 64, "height": 64, "min_scale": 0.5, "max_scale": 1.0},
        "epochs": 2,
        "optimizer": {"name": "adamw", "learning_rate": 0.005, "weight_decay": 0.01},
        "schedule": {"name": "one_cycle", "warmup": 0.2},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def here(workers: int = 0) -> Machine:
    return Machine.here("fp32", workers)


def rows(run: Path) -> list[dict[str, str]]:
    """The log, without times."""
    with (run / "log.csv").open() as file:
        return [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]


def load_checkpoint(run: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run / "last.ckpt", weights_only=True)
    return checkpoint
