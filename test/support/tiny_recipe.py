"""A recipe with every key that one must have, as its file has it."""

from __future__ import annotations

from typing import Any

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "source": "a test",
    "network": "enet",
    "label_set": "camvid11",
    "train": [{"dataset": "street", "split": "train"}],
    "validation": {"dataset": "street", "split": "val"},
    "width": 96,
    "height": 64,
    "augmentation": {"width": 64, "height": 64},
    "epochs": 4,
    "batch_size": 4,
    "optimizer": {"name": "adamw", "learning_rate": 0.001, "weight_decay": 0.01},
    "schedule": {"name": "poly", "power": 0.9},
    "data_license": "none",
}

SITE_RECIPE: dict[str, Any] = {
    **RECIPE,
    "train": [{"dataset": "folder", "split": "train"}],
    "validation": {"dataset": "folder", "split": "val"},
    "width": 64,
    "height": 48,
    "augmentation": {"width": 64, "height": 48},
    "batch_size": 2,
}
"""Of folders of images; `label_set` and `epochs` are the test's."""
