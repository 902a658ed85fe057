"""Trainings that are killed and resumed, or divided among processes, come to the same weights."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

import lightning  # noqa: E402
from support.frozen_training import FrozenTraining  # noqa: E402
from support.small_training import SMALLEST, here, load_checkpoint, rows, street, write_recipe  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from rt_segmentation import cli  # noqa: E402
from rt_segmentation.models import read_manifest  # noqa: E402
from rt_segmentation.training.data import EpochSampler, ResumableLoader  # noqa: E402
from rt_segmentation.training.module import SegmentationModule  # noqa: E402
from rt_segmentation.training.recipe import load_recipe  # noqa: E402
from rt_segmentation.training.run import fit, quieten_lightning, train  # noqa: E402
from rt_segmentation.training.run_folder import RunFolder  # noqa: E402
from rt_segmentation.weights import load_weights  # noqa: E402

TESTS = Path(__file__).parents[1]
FROZEN = TESTS / "support" / "frozen_training.py"


def with_support() -> dict[str, str]:
    """The environment of a process that finds the tests' network."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
    }


class Numbers(Dataset[Any]):
    """Eight numbers, as a training's frames."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: Any) -> Any:
        return torch.ones(1)


class OneWeight(lightning.LightningModule):
    """The least that can be trained; killed before a step, and validated to a score that rises."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__()
        self.network = torch.nn.Linear(1, 1)
        self._killed_at = killed_at

    def training_step(self, batch: Any, _: int) -> Any:
        if self.global_step == self._killed_at:
            raise RuntimeError("killed")
        loss = self.network(batch).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, *_: Any) -> None:
        """Nothing to count."""

    def on_validation_epoch_end(self) -> None:
        self.log("mean_iou", float(self.global_step))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class NoStore:
    """Keeps no weights."""

    def write(self, *_: Any) -> None:
        """Nowhere."""


def test_an_epoch_that_is_resumed_is_validated_only_if_it_is_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epochs 1, 3 and 5 of five are; another one could have the best weights."""
    recipe = load_recipe(write_recipe(tmp_path, epochs=5))
    monkeypatch.setattr("rt_segmentation.training.run.MAX_VALIDATIONS", 3)
    quieten_lightning()

    def train_on(module: OneWeight, checkpoint_s: float) -> None:
        loaders = (
            ResumableLoader(Numbers(), 4, sampler=EpochSampler(8, 0, 4)),
            DataLoader(Numbers(), 8),
        )
        fit(module, recipe, here(), RunFolder(tmp_path), loaders, "mean_iou", NoStore(), checkpoint_s)

    with pytest.raises(RuntimeError, match="killed"):
        train_on(OneWeight(killed_at=3), 0.0)
    assert load_checkpoint(tmp_path)["global_step"] == 3, "in the middle of the second epoch"
    train_on(OneWeight(), 60.0)
    assert [row["epoch"] for row in rows(tmp_path) if row["mean_iou"]] == ["1", "3", "5"]


@pytest.mark.long
def test_a_network_that_is_resumed_is_validated_only_if_it_is_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, with a network, a street and a store."""
    small = {"augmentation": SMALLEST, "train": [street(1, 1000, 8)], "validation": street(1, 50)}
    recipe = load_recipe(write_recipe(tmp_path, epochs=5, **small))
    monkeypatch.setattr("rt_segmentation.training.run.MAX_VALIDATIONS", 3)

    def stop(module: SegmentationModule, *_: Any) -> None:
        if module.global_step == 3:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "on_train_batch_start", stop)
        with pytest.raises(RuntimeError, match="killed"):
            train(recipe, None, tmp_path, here(), checkpoint_s=0)
    assert load_checkpoint(tmp_path / "tiny")["global_step"] == 3, "in the middle of the second epoch"
    train(recipe, None, tmp_path, here())
    assert [row["epoch"] for row in rows(tmp_path / "tiny") if row["mean_iou"]] == ["1", "3", "5"]


def in_a_group(command: list[str]) -> None:
    """Train in a group of processes, to be killed with all of its workers."""
    os.setsid()
    cli.main(command)


def test_killed_in_mid_epoch_it_comes_to_the_same_weights(tmp_path: Path) -> None:
    """Dropout, augmentation, mixing, averaging, two workers; the kill leaves a process no chance to save."""
    epoch = 8
    path = write_recipe(
        tmp_path,
        ema=0.9,
        train=[street(2, 1000, 2 * epoch)],
        mixing={"amplitude": 0.5, "paste": 0.5},
        keep="last",
    )
    command = ["train", str(path), "--workers", "2", "--precision", "fp32", "--checkpoint-s", "0", "--out"]
    whole, broken = tmp_path / "whole" / "tiny", tmp_path / "broken" / "tiny"
    # As a copy of this process where that can be: a new one imports PyTorch and Lightning, for seconds.
    context: Any = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    killed = context.Process(target=in_a_group, args=([*command, str(broken.parent)],))
    killed.start()
    deadline = time.monotonic() + 600
    seen_ns = step = 0
    while step <= epoch:
        assert killed.is_alive(), "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
        checkpoint = broken / "last.ckpt"
        if checkpoint.is_file() and (written_ns := checkpoint.stat().st_mtime_ns) != seen_ns:
            seen_ns, step = written_ns, load_checkpoint(broken)["global_step"]
    os.killpg(killed.pid, signal.SIGKILL)
    killed.join()
    step = load_checkpoint(broken)["global_step"]
    assert epoch < step < 2 * epoch, "it was past the second epoch before it could be killed"
    # What there is of a model is whole.
    assert load_weights(read_manifest(broken / "tiny.yaml"))

    assert cli.main([*command, str(broken.parent)]) == cli.main([*command, str(whole.parent)]) == 0
    expected, resumed = load_checkpoint(whole), load_checkpoint(broken)
    assert expected["global_step"] == resumed["global_step"] == 2 * epoch
    for part in ("state_dict", "current_model_state"):  # averaged weights, and the optimiser's
        assert expected[part].keys() == resumed[part].keys()
        differing = [
            key for key, value in expected[part].items() if not torch.equal(value, resumed[part][key])
        ]
        assert not differing
    assert (whole / "tiny.safetensors").read_bytes() == (broken / "tiny.safetensors").read_bytes()
    assert rows(whole) == rows(broken)
    assert len(yaml.safe_load((broken / "environment.yaml").read_text())) == 2


@pytest.mark.long
def test_two_processes_with_half_the_batch_train_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class weights, unlabelled borders, and a number of validation frames that two do not divide."""
    path = write_recipe(
        tmp_path,
        train=[street(2, 1000, 12)],
        batch_size=8,
        epochs=1,
        optimizer={"name": "sgd", "learning_rate": 0.5, "momentum": 0.9},
        schedule={"name": "constant"},
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(FROZEN), str(path), str(tmp_path / "two")], check=True, env=with_support())
    monkeypatch.setattr(sys.modules[train.__module__], "Training", FrozenTraining)
    train(load_recipe(path), None, tmp_path / "one", here())
    one, two = (
        load_weights(read_manifest(tmp_path / name / "tiny" / "tiny.yaml")) for name in ("one", "two")
    )
    assert max(np.abs(one[key] - two[key]).max() for key in one) < 1e-5
    logs = [rows(tmp_path / name / "tiny") for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1]) == 4
    for first, second in zip(*logs):
        assert first.keys() == second.keys()
        for key in first:
            if first[key] or second[key]:
                assert float(first[key]) == pytest.approx(float(second[key]), abs=1e-5), key
    (start_of_two,) = yaml.safe_load((tmp_path / "two" / "tiny" / "environment.yaml").read_text())
    assert start_of_two["processes"] == 2
