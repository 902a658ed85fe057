"""Averages of weights: exponential, and the plain mean of a training's end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_recipe import RECIPE

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="pip install 'rt_segmentation[train]'")

import lightning  # noqa: E402
from support.models import save_untrained  # noqa: E402
from support.small_network import SMALL, SmallNetwork  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from rt_segmentation.models import Score, read_manifest  # noqa: E402
from rt_segmentation.settings import read_settings  # noqa: E402
from rt_segmentation.training.averaging import averaging, tail_share  # noqa: E402
from rt_segmentation.training.recipe import Recipe  # noqa: E402
from rt_segmentation.weights import load_weights  # noqa: E402
from tools import average_models  # noqa: E402


class Falling(lightning.LightningModule):
    """One weight, which falls by 1 in each step; a buffer counts the steps."""

    steps: Any

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))

    def training_step(self, batch: Any, index: int) -> Any:
        self.steps += 1
        return self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1.0)


def averaged(tmp_path: Path, steps: int, **recipe: Any) -> Falling:
    module = Falling()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[*averaging(read_settings(Recipe, {**RECIPE, **recipe}), steps)],
    )
    trainer.fit(module, DataLoader(torch.zeros(steps, 1)))
    return module


@pytest.mark.parametrize(
    ("swa", "expected"), [(0.0, -8.0), (0.01, -8.0), (0.25, -7.5), (0.5, -6.5), (1.0, -4.5)]
)
def test_the_mean_of_the_last_steps(tmp_path: Path, swa: float, expected: float) -> None:
    module = averaged(tmp_path, 8, swa=swa)
    assert float(module.weight.detach()) == pytest.approx(expected)
    assert int(module.steps) == 8, "what is no float is the last"


def test_the_exponential_average_forgets_its_start_soon(tmp_path: Path) -> None:
    value, average = 0.0, 0.0
    for step in range(8):
        value -= 1
        decay = min(0.5, (1 + step) / (10 + step)) if step else 0.0
        average = decay * average + (1 - decay) * value
    assert float(averaged(tmp_path, 8, ema=0.5).weight.detach()) == pytest.approx(average)


def test_until_the_tail_the_average_is_the_weights() -> None:
    assert [tail_share(3, step) for step in range(6)] == [1, 1, 1, 1, 1 / 2, 1 / 3]


def test_averaged_models_keep_nothing_that_was_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start, end = (
        save_untrained(tmp_path / f"{name}.yaml", SmallNetwork(11), SMALL, (96, 64)) for name in ("a", "b")
    )
    score = Score("mean_iou", "street", "", 0.5, 96, 64)
    measured = replace(end, scores=(score,), temperature=2.0, training={"epoch": 3})
    made = average_models.averaged(start, measured, 0.25, tmp_path / "made")
    assert read_manifest(tmp_path / "made" / "b.yaml") == made
    assert (made.scores, made.temperature, made.profile) == ((), 1.0, None)
    assert made.training == {"epoch": 3, "averaged_with": "a", "weight": 0.25}
    first, second, mean = (load_weights(model)["stem.weight"] for model in (start, end, made))
    np.testing.assert_allclose(mean, 0.75 * first + 0.25 * second, atol=1e-7)
    for change in ({"mean": (0.5, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.5)}, {"options": {"a": 1}}):
        with pytest.raises(SystemExit, match=f"the {next(iter(change))} of a and b differ"):
            average_models.averaged(start, replace(end, **change), 0.5, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
