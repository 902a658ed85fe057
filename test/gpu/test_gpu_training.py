"""Trainings on a CUDA device: augmented there, with the passes of a step as one recorded graph."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")
import torch

from rt_segmentation.training.machine import Machine
from rt_segmentation.training.module import SegmentationModule
from rt_segmentation.training.recipe import load_recipe
from rt_segmentation.training.run import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]

PART = {"dataset": "street", "frames_per_scene": 1, "width": 160, "height": 96}


@pytest.mark.parametrize("network", ["enet", "lednet", "linknet"])
def test_recorded_passes_train_as_others_do(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of the first steps agree, and fall further after the validation in the middle."""
    path = tmp_path / f"{network}.yaml"
    content = {
        "base": "enet_open_road_gpu",
        "name": network,
        "network": network,
        "train": [{**PART, "scenes": 32, "first_seed": 1000}],
        "validation": {**PART, "scenes": 2, "first_seed": 50},
        "augmentation": {"width": 160, "height": 96},
        "epochs": 10,
        "keep": "best",
        "loss": {"lovasz": 0.5},
        "folds": None,
    }
    path.write_text(yaml.safe_dump(content))
    recipe = load_recipe(path)
    losses = {}
    for kind in ("recorded", "plain"):
        if kind == "plain":
            monkeypatch.setattr(SegmentationModule, "_records", lambda self: False)
        assert train(recipe, None, tmp_path / kind, Machine.here("fp32", 1)) is not None
        losses[kind] = losses_of(tmp_path / kind / network)
    for recorded, plain in zip(losses["recorded"][:3], losses["plain"][:3]):
        assert recorded == pytest.approx(plain, rel=0.02)
    assert losses["recorded"][-1] < 0.95 * losses["recorded"][len(losses["recorded"]) // 2]


def losses_of(run: Path) -> list[Any]:
    """By step."""
    with (run / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
