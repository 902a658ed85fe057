"""Training: a run from the recipe to the model, and its mishaps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.dataset_layouts import blocks, image, write

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from support.small_network import SmallNetwork  # noqa: E402
from support.small_training import SMALLEST, here, load_checkpoint, rows, street, write_recipe  # noqa: E402

from rt_segmentation import cli  # noqa: E402
from rt_segmentation.models import read_manifest  # noqa: E402
from rt_segmentation.training import timing  # noqa: E402
from rt_segmentation.training.data import Share  # noqa: E402
from rt_segmentation.training.errors import TrainingError  # noqa: E402
from rt_segmentation.training.losses import SegmentationLoss  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.recipe import load_recipe  # noqa: E402
from rt_segmentation.training.run import Training, train  # noqa: E402
from rt_segmentation.training.single_frames import refuse_single_frames  # noqa: E402
from rt_segmentation.training.store import BestModel, ModelStore  # noqa: E402
from rt_segmentation.weights import load_weights  # noqa: E402


def test_a_run_leaves_a_model_and_all_that_tells_of_it(with_curves: None, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, network="enet", ema=0.9))
    manifest = train(recipe, None, tmp_path / "out", here())
    run = tmp_path / "out" / "tiny"
    assert manifest == read_manifest(run / "tiny.yaml")
    assert load_weights(manifest)
    (score,) = manifest.scores
    assert (score.metric, score.dataset) == ("mean_iou", "street")
    measured = {int(row["epoch"]): float(row["mean_iou"]) for row in rows(run) if row["mean_iou"]}
    assert manifest.training["epoch"] == max(measured, key=measured.__getitem__)
    # The stored weights, as the node would run them, score what the validation found.
    assert score.value == pytest.approx(max(measured.values()), abs=1e-3)
    assert manifest.parameters == 363_412 + 65 * 11
    assert load_recipe(run / "recipe.yaml") == recipe
    (start,) = yaml.safe_load((run / "environment.yaml").read_text())
    assert start["packages"]["torch"] == torch.__version__
    assert start["commit"]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [int(row["step"]) for row in rows(run) if row["loss"]] == [1, 2, 3, 4, 5, 6]
    assert list((run / "tensorboard").glob("events*"))
    assert [path.name for path in run.glob("*.safetensors")] == ["tiny.safetensors"]

    (events,) = (run / "tensorboard").glob("events*")
    assert b"learning_rate" in events.read_bytes()

    # Called again it trains nothing and says the same; with another recipe it refuses.
    assert train(recipe, None, tmp_path / "out", here()) == manifest
    with pytest.raises(TrainingError, match="another seed"):
        other = load_recipe(write_recipe(tmp_path, network="enet", ema=0.9, seed=7))
        train(other, None, tmp_path / "out", here())
    (run / "last.ckpt").unlink()
    with pytest.raises(TrainingError, match=r"has a result, tiny.yaml, and no last.ckpt to resume from"):
        train(recipe, None, tmp_path / "out", here())


def test_what_float16_cannot_hold_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rt_segmentation.training.store.FLOAT16_ABOVE_BYTES", 0)
    network = SmallNetwork(11)
    network.norm.running_var.fill_(1e5)
    recipe = load_recipe(write_recipe(tmp_path))
    ModelStore(tmp_path, recipe, network, {"frames": 8}).write(network.state_dict(), 1, 0.1)
    stored = load_weights(read_manifest(tmp_path / "tiny.yaml"))
    assert (stored["norm.running_var"] == 1e5).all()
    weight = network.stem.weight.detach().numpy()
    np.testing.assert_array_equal(stored["stem.weight"], weight.astype(np.float16))


class Scored:
    """A trainer that has validated: so much of it a store needs."""

    is_global_zero = True

    def __init__(self, epoch: int, value: float) -> None:
        self.current_epoch, self.callback_metrics = epoch, {"mean_iou": torch.tensor(value)}


@pytest.mark.parametrize(("keep", "expected"), [("best", [1, 3]), ("last", [1, 2, 3, 4])])
def test_the_best_or_the_last_weights_are_kept(keep: Any, expected: list[int]) -> None:
    written: list[int] = []
    values = [0.3, 0.2, 0.4, 0.35]
    # A new one at each epoch, as a training that is killed and resumed has.
    state = {"best": -1.0}
    for epoch, value in enumerate(values):
        store = BestModel("mean_iou", keep, lambda _, epoch: written.append(epoch))
        store.load_state_dict(state)
        store.on_validation_end(Scored(epoch, value), None)  # type: ignore[arg-type]
        state = store.state_dict()
    assert written == expected


def test_the_last_weights_are_the_model_where_a_recipe_says_so(tmp_path: Path) -> None:
    """Of the epochs' weights the last, though a training at such a rate has its best before."""
    changes = {"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.5}, "ema": 0.5}
    recipe = load_recipe(write_recipe(tmp_path, keep="last", **changes))
    manifest = train(recipe, None, tmp_path / "out", here())
    assert manifest is not None and manifest.training["epoch"] == 3
    averages = load_checkpoint(tmp_path / "out" / "tiny")["state_dict"]
    for key, array in load_weights(manifest).items():
        np.testing.assert_array_equal(array, averages[f"network.{key}"].numpy())


@pytest.mark.parametrize(
    ("size", "epochs", "steps", "rate", "least"),
    [((96, 64), 3, 20, 0.02, 0.15), pytest.param((128, 96), 400, 1, 0.01, 0.8, marks=pytest.mark.long)],
)
def test_it_learns_a_street(
    size: tuple[int, int], epochs: int, steps: int, rate: float, least: float, tmp_path: Path
) -> None:
    """In few steps the large classes, in many all."""
    width, height = size
    frames = {**street(2, 1000), "width": width, "height": height}
    recipe = write_recipe(
        tmp_path,
        train=[frames] * steps,
        validation=frames,
        width=width,
        height=height,
        augmentation={
            **{"width": width, "height": height, "min_scale": 1.0, "max_scale": 1.0},
            **{"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
        },
        epochs=epochs,
        batch_size=2,
        optimizer={"name": "adamw", "learning_rate": rate},
        loss={"class_weights": {"how": "none"}, "dice": 1.0},
        ema=0.9,
    )
    assert cli.main(["train", str(recipe), "--out", str(tmp_path), "--workers", "1"]) == 0
    (score,) = read_manifest(tmp_path / "tiny" / "tiny.yaml").scores
    assert score.value > least


def test_a_loss_that_is_not_a_number_names_step_and_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def forward(self: Any, logits: Any, labels: Any) -> Any:
        calls.append(labels)
        return logits.mean() * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(SegmentationLoss, "forward", forward)
    with pytest.raises(TrainingError, match="nan at step 2") as caught:
        train(load_recipe(write_recipe(tmp_path)), None, tmp_path / "out", here())
    named = re.findall(r"street\d+_\d+", str(caught.value))
    assert len(set(named)) == 4


def test_a_dry_run_writes_a_picture_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    recipe = write_recipe(tmp_path)
    assert cli.main(["train", str(recipe), "--out", str(out), "--workers", "1", "--dry-run"]) == 0
    assert [path.name for path in out.rglob("*")] == ["tiny_batch.png"]
    printed, said = capsys.readouterr()
    assert "timing some steps" in said
    assert re.search(r"Bicyclist +0\.\d+ +\d+\.\d+ █", printed)
    assert "frames/s" in printed
    assert "2 epochs take about 0:" in printed


def test_timing_on_a_slow_machine_takes_the_fewest_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, batch_size=2, validation=street(1, 50, 6))
    training = Training.prepare(load_recipe(recipe), None, here())
    steps = {"training_step": 0, "validation_step": 0}
    for name in steps:
        step = getattr(type(training.module), name)

        def counted(*given: Any, name: str = name, step: Any = step) -> Any:
            steps[name] += 1
            return step(*given)

        monkeypatch.setattr(type(training.module), name, counted)
    loaders = training.training_loader(), training.validation_loader()
    assert len(loaders[0]) > timing.LEAST < len(loaders[1])
    found = timing.measure(training.machine, training.module, *loaders, limit_s=0.0)
    assert steps == {"training_step": timing.LEAST, "validation_step": timing.LEAST}
    assert found.step_s > 0 and found.validation_s > 0


def test_what_is_timed_is_compiled_as_what_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training.prepare(load_recipe(write_recipe(tmp_path)), None, here())
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda network: compiled.append(network))
    loaders = training.training_loader(), training.validation_loader()
    timing.measure(training.machine, training.module, *loaders, limit_s=0.0)
    assert not compiled
    timing.measure(training.machine, training.module, *loaders, limit_s=0.0, compiled=True)
    (network,) = compiled
    assert type(network) is type(training.module.network) and network is not training.module.network


def test_masks_of_black_and_white_and_absent_classes_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        for number in range(4):
            write(tmp_path / split / "images" / f"{number}.png", image(number, 96, 64))
            values = (0, 255) if split == "train" else range(11)
            write(tmp_path / split / "labels" / f"{number}.png", blocks(number, values, 96, 64))
    frames = {"dataset": "folder"}
    recipe = write_recipe(
        tmp_path, train=[{**frames, "split": "train"}], validation={**frames, "split": "val"}
    )
    Training.prepare(load_recipe(recipe), tmp_path, here())
    said = [record.getMessage() for record in caplog.records if "data: " in record.getMessage()]
    assert len(said) == 2 and all(sentence.startswith("training data: ") for sentence in said), said
    assert "the masks hold only 0 and 255" in said[0] and "no frame has a pixel of 10 classes" in said[1]


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ([], {"batch_size": 13}, "12 frames to train on"),
        ([], {"label_set": "cityscapes19"}, "the recipe wants cityscapes19"),
        ([], {"network": "lednet", "batch_size": 1}, "needs two or more: set batch_size to 2 or more"),
        (
            [],
            {"network": "linknet", "augmentation": SMALLEST, "batch_size": 1},
            "trains linknet on one frame",
        ),
        ([], {"mixing": {"paste": 0.5, "paste_classes": [2, 11]}}, "paste_classes has 11, and camvid11 has"),
        (["--precision", "fp16"], {}, "needs a CUDA GPU"),
        (["--init-from", "nothing"], {}, "unknown model 'nothing'"),
        (["--max-hours", "0.00001"], {}, "give --max-hours more"),
        (["--max-hours", "nan"], {}, "--max-hours nan is not a number of hours above 0, as 2.5"),
        (["--checkpoint-s", "-1"], {}, "--checkpoint-s -1 is not a number of seconds from 0 up, as 120"),
        (["--workers", "-1"], {}, "--workers -1 is not a number of processes from 0 up, as 4"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    if "fp16" in arguments and torch.cuda.is_available():
        pytest.skip("a GPU has fp16")
    recipe = write_recipe(tmp_path, **changes)
    out = tmp_path / "out"
    assert cli.main(["train", str(recipe), "--out", str(out), "--workers", "0", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_one_frame_a_process_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    lednet = load_recipe(write_recipe(tmp_path, network="lednet", batch_size=2))
    two = Machine(False, "fp32", Share(0, 2), 2, 0)
    with pytest.raises(
        TrainingError, match=r"in each of 2 processes.* set batch_size to 4 or more, or use fewer"
    ):
        Training.prepare(lednet, tmp_path / "no data", two)
    # On GPUs batch norm sees the frames of both; on one machine alone two are enough; ENet needs but one.
    refuse_single_frames(lednet, 11, Machine(True, "fp32", Share(0, 2), 2, 0))
    refuse_single_frames(lednet, 11, here())
    refuse_single_frames(load_recipe(write_recipe(tmp_path, batch_size=1)), 11, here())


def test_enets_encoder_is_trained_first_and_starts_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = load_recipe(write_recipe(tmp_path, name="stage1", network="enet_encoder", epochs=1))
    manifest = train(first, None, out, here())
    assert manifest is not None
    second = load_recipe(write_recipe(tmp_path, network="enet", epochs=1, init_from="stage1"))
    assert train(second, None, out, here()) is not None
    assert "the encoder of model 'stage1'" in capsys.readouterr().out
    assert read_manifest(out / "tiny" / "tiny.yaml").training["init_from"] == "stage1"
