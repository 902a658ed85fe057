"""Training on a user's own folder: a label set of theirs with a void class, and labels that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.dataset_layouts import blocks, image, write
from support.tiny_recipe import SITE_RECIPE

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from rt_segmentation import cli
from rt_segmentation.models import read_manifest
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.recipe import load_recipe
from rt_segmentation.training.run import Training

LABEL_SET = {
    "name": "site",
    "classes": [
        {"id": 0, "name": "floor", "color": [10, 20, 30], "category": "flat"},
        {"id": 1, "name": "rack", "color": [200, 0, 0], "category": "object"},
        {"id": 2, "name": "nothing", "color": [0, 0, 0], "category": "void"},
    ],
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one epoch; the frames have all three classes."""
    for split, count in (("train", 4), ("val", 3)):
        for seed in range(count):
            write(tmp_path / "site" / split / "images" / f"{split}{seed}.png", image(seed))
            write(tmp_path / "site" / split / "labels" / f"{split}{seed}.png", blocks(seed, [0, 1, 2]))
    labels = tmp_path / "labels.yaml"
    labels.write_text(yaml.safe_dump(LABEL_SET))
    content = {
        **SITE_RECIPE,
        "label_set": str(labels),
        "epochs": 1,
        "schedule": {"name": "one_cycle", "warmup": 0.2},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train(recipe: Path, workers: int) -> int:
    root = recipe.parent
    folders = ["--data-root", str(root / "site"), "--out", str(root / "out")]
    return cli.main(["train", str(recipe), *folders, "--workers", str(workers), "--precision", "fp32"])


def test_a_void_class_has_no_part_in_the_score(recipe: Path) -> None:
    assert train(recipe, 0) == 0
    model = recipe.parent / "out" / "tiny" / "tiny.yaml"
    # The model brings its label set along.
    (recipe.parent / "labels.yaml").unlink()
    answer = recipe.parent / "scores.json"
    command = ["evaluate", "--model", str(model), "--dataset", "folder", "--split", "val"]
    command += ["--option", f"label_set={model.parent / 'labels.yaml'}"]
    command += ["--data-root", str(recipe.parent / "site"), "--engine", "torch", "--precision", "fp32"]
    assert cli.main([*command, "--json", str(answer)]) == 0
    expected = json.loads(answer.read_text())
    assert set(expected["class_iou"]) == {"floor", "rack"}
    (score,) = read_manifest(model).scores
    assert score.value == pytest.approx(expected["mean_iou"], abs=6e-5)
    rows = (model.parent / "log.csv").read_text().splitlines()
    validated = dict(zip(rows[0].split(","), rows[-1].split(",")))
    assert float(validated["mean_iou"]) == pytest.approx(expected["mean_iou"], abs=1e-3)
    assert "iou/nothing" not in validated


def test_paths_may_begin_at_home(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell leaves the ~ of `--out=~/runs` as it is, and so does YAML."""
    monkeypatch.setenv("HOME", str(recipe.parent))
    monkeypatch.chdir(recipe.parent / "site")
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**content, "label_set": "~/labels.yaml"}))
    options = ["--workers", "0", "--precision", "fp32", "--out=~/out", "--data-root", "~/site"]
    assert cli.main(["train", "~/recipe.yaml", *options]) == 0
    assert (recipe.parent / "out" / "tiny" / "labels.yaml").is_file()
    stats = ["--dataset", "folder", "--option", "label_set=~/labels.yaml", "--data-root=~/site"]
    assert cli.main(["dataset", "stats", *stats, "--split", "val", "--json=~/stats.json"]) == 0
    assert (recipe.parent / "stats.json").is_file()
    assert {path.name for path in Path.cwd().iterdir()} == {"train", "val"}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("workers", [0, 1])
def test_all_wrong_labels_are_named_before_anything_is_trained(
    recipe: Path, split: str, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = recipe.parent / "site" / split / "labels"
    for number in (0, 2):
        write(labels / f"{split}{number}.png", np.full((48, 64), 7, np.uint8))
    assert train(recipe, workers) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.count("has id 7 (3072 pixels); its ids are 0 to 2, 255") == 2
    assert f"{split}0.png" in said and f"{split}2.png" in said
    assert not (recipe.parent / "out").exists()


@pytest.mark.parametrize(
    ("split", "value", "sentence"),
    [
        ("train", 255, "trains on (folder train) have no labelled pixel; give it data with labels"),
        ("val", 255, "validates on (folder val) have no labelled pixel; give it a split with labels"),
        ("val", 2, "validates on (folder val) have no labelled pixel of a class that is evaluated; give it"),
    ],
)
def test_frames_without_labels_are_refused(
    recipe: Path, split: str, value: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (recipe.parent / "site" / split / "labels").iterdir():
        write(path, np.full((48, 64), value, np.uint8))
    assert train(recipe, 0) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"the frames that recipe 'tiny' {sentence}" in said
    assert not (recipe.parent / "out").exists()


def test_one_of_two_data_sets_without_labels_is_told(
    recipe: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = recipe.parent / "site"
    for path in (root / "train" / "labels").iterdir():
        write(path, np.full((48, 64), 255, np.uint8))
    content = yaml.safe_load(recipe.read_text())
    content["train"].append({"dataset": "folder", "split": "val"})
    recipe.write_text(yaml.safe_dump(content))
    training = Training.prepare(load_recipe(recipe), root, Machine.here("fp32", workers=0))
    sentence = "no frame of folder train has a labelled pixel: it teaches nothing"
    assert f"training data: {sentence}" in caplog.messages
    assert training.counts.pixels.all() and training.counts.unlabelled == 4 * 48 * 64
    # Teachers say what is on frames that nobody has labelled.
    content |= {"train": content["train"][:1], "distillation": {"teachers": ["anything"]}}
    recipe.write_text(yaml.safe_dump(content))
    training = Training.prepare(load_recipe(recipe), root, Machine.here("fp32", workers=0))
    assert training.module.loss.weights.tolist() == [1, 1, 1]


def test_folds_without_labels_are_refused_before_any_is_trained(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["folds"] = {"by": "^(train[0-9]|val)"}
    recipe.write_text(yaml.safe_dump(content))
    labels = recipe.parent / "site" / "train" / "labels"
    write(labels / "train1.png", np.full((48, 64), 255, np.uint8))
    write(labels / "train3.png", np.full((48, 64), 2, np.uint8))
    folders = ["--data-root", str(recipe.parent / "site"), "--out", str(recipe.parent / "out")]
    command = ["train", str(recipe), *folders, "--workers", "0", "--precision", "fp32"]
    assert cli.main([*command, "--folds"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "no labelled pixel of a class that is evaluated" in said and "models: train1, train3; give" in said
    # A recipe may leave a fold out by itself.
    content["folds"]["leave_out"] = "train1"
    recipe.write_text(yaml.safe_dump(content))
    assert cli.main(command) == 2
    assert "validates on (the fold train1) have no labelled pixel; give it a fold" in capsys.readouterr().err
    for path in [*labels.iterdir(), *(recipe.parent / "site" / "val" / "labels").iterdir()]:
        write(path, np.full((48, 64), 255 if path.stem != "train1" else 0, np.uint8))
    assert cli.main(command) == 2
    assert "trains on (without the fold train1) have no labelled pixel" in capsys.readouterr().err
    assert not (recipe.parent / "out").exists()
