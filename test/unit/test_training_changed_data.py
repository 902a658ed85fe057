"""Trainings that are started again with other data than at their start: refused, and never a mixture."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.dataset_layouts import blocks, image, write
from support.tiny_recipe import RECIPE, SITE_RECIPE

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from support.small_network import SMALL

from rt_segmentation import cli
from rt_segmentation.models import read_manifest
from rt_segmentation.training.module import SegmentationModule

CLASSES = [
    {"id": 0, "name": "floor", "color": [10, 20, 30], "category": "flat"},
    {"id": 1, "name": "rack", "color": [200, 0, 0], "category": "object"},
]
ANEW = "; to train anew, give another --out or the recipe another name, or delete the folder"


def write_frame(root: Path, split: str, name: str) -> None:
    write(root / split / "images" / f"{name}.png", image(len(name)))
    write(root / split / "labels" / f"{name}.png", blocks(1, [0, 1]))


def write_classes(folder: Path, classes: list[dict[str, Any]]) -> None:
    (folder / "labels.yaml").write_text(yaml.safe_dump({"name": "site", "classes": classes}))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two epochs of two steps on four frames."""
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write_frame(tmp_path / "site", split, f"{split}{number}")
    write_classes(tmp_path, CLASSES)
    content = {
        **SITE_RECIPE,
        "network": SMALL,
        "label_set": str(tmp_path / "labels.yaml"),
        "epochs": 2,
        "folds": {"by": "^(train[01]|val)"},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train(recipe: Path, *arguments: str, root: str = "site") -> int:
    folders = ["--data-root", str(recipe.parent / root), "--out", str(recipe.parent / "out")]
    options = ["--workers", "0", "--precision", "fp32", "--checkpoint-s", "0"]
    return cli.main(["train", str(recipe), *folders, *options, *arguments])


def test_a_run_that_has_ended_says_so(
    recipe: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert train(recipe) == 0
    run = recipe.parent / "out" / "tiny"
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    # The same frames elsewhere are the same data.
    shutil.move(recipe.parent / "site", recipe.parent / "moved")
    capsys.readouterr()
    caplog.clear()
    assert train(recipe, root="moved") == 0
    assert f"the run in folder {run} has ended: nothing was trained{ANEW}" in caplog.messages
    assert "tiny.yaml: mean IoU" in capsys.readouterr().out
    assert files == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    write_frame(recipe.parent / "moved", "train", "train9")
    assert train(recipe, root="moved") == 2
    (said,) = capsys.readouterr().err.splitlines()
    change = "its data set folder train had 4 frames at its start, and now has 5"
    assert f"folder {run} has a run of other data: {change}{ANEW}" in said
    assert read_manifest(run / "tiny.yaml").training["frames"] == 4
    # Measured on other frames, the score would be another one's.
    (recipe.parent / "moved" / "train" / "images" / "train9.png").unlink()
    (recipe.parent / "moved" / "val" / "images" / "val1.png").rename(
        recipe.parent / "moved" / "val" / "images" / "val7.png"
    )
    (recipe.parent / "moved" / "val" / "labels" / "val1.png").rename(
        recipe.parent / "moved" / "val" / "labels" / "val7.png"
    )
    assert train(recipe, root="moved") == 2
    said = capsys.readouterr().err
    assert "its data set folder val has as many frames as at its start, 2, but not the same" in said


def test_frames_of_another_site_with_the_same_names_are_others(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cameras count from 1 wherever they are."""
    assert train(recipe) == 0
    other = recipe.parent / "other"
    shutil.copytree(recipe.parent / "site", other)
    # A mask that was corrected is no other frame.
    write(other / "train" / "labels" / "train0.png", blocks(2, [1]))
    assert train(recipe, root="other") == 0
    write(other / "train" / "images" / "train0.png", np.zeros((48, 64, 3), np.uint8))
    assert train(recipe, root="other") == 2
    assert "folder train has as many frames as at its start, 4, but not the same" in capsys.readouterr().err


@pytest.fixture
def killed(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training that was killed in the middle of its second epoch."""

    def stop(module: SegmentationModule, *_: Any) -> None:
        if module.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "on_train_batch_start", stop)
        assert train(recipe) == 130
    assert (recipe.parent / "out" / "tiny" / "last.ckpt").is_file()
    return recipe


def test_a_killed_run_does_not_go_on_with_more_frames(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (5, 6):
        write_frame(killed.parent / "site", "train", f"train{number}")
    assert train(killed) == 2
    assert "data set folder train had 4 frames at its start, and now has 6" in capsys.readouterr().err
    # Without its checkpoint it begins again, with the frames that there are then.
    for path in (killed.parent / "out" / "tiny").glob("last.ckpt"):
        path.unlink()
    assert train(killed) == 0
    assert read_manifest(killed.parent / "out" / "tiny" / "tiny.yaml").training["frames"] == 6


@pytest.mark.parametrize(
    ("classes", "change"),
    [
        (
            [{**CLASSES[0], "name": "rack"}, {**CLASSES[1], "name": "floor"}],
            "its class 0 was 'floor' (category flat, colour [10, 20, 30]) at its start, and now is 'rack'",
        ),
        (
            [CLASSES[0], {**CLASSES[1], "category": "void"}],
            "its class 1 was 'rack' (category object, colour [200, 0, 0]) at its start, and now is 'rack' (c",
        ),
        (
            [*CLASSES, {**CLASSES[1], "id": 2, "name": "door"}],
            "it had 2 classes at its start, and now has 3",
        ),
    ],
    ids=["swapped", "void", "added"],
)
def test_a_killed_run_does_not_go_on_with_other_classes(
    killed: Path, classes: list[dict[str, Any]], change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(killed.parent, classes)
    assert train(killed) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "has a run of" in line]
    assert change in said and said.endswith(ANEW)
    assert "Traceback" not in said


def test_a_run_of_an_earlier_version_goes_on(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = killed.parent / "out" / "tiny" / "data.yaml"
    kept = record.read_bytes()
    record.unlink()
    assert train(killed) == 0
    assert record.read_bytes() == kept
    record.write_text("classes: [a")
    assert train(killed) == 2
    assert f"record {record} cannot be read" in capsys.readouterr().err


def test_folds_of_other_data_are_not_mixed(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(recipe, "--fold", "train0") == 0
    table = recipe.parent / "out" / "tiny" / "folds.yaml"
    before = table.read_bytes()
    write_frame(recipe.parent / "site", "train", "train5")
    for fold in (["--folds"], ["--fold", "val"]):
        capsys.readouterr()
        assert train(recipe, *fold) == 2
        said = capsys.readouterr().err
        assert "tiny_train0 has a run of other data: its data set folder train had 4 frames" in said
    assert table.read_bytes() == before
    assert not (table.parent / "folds" / "tiny_val").exists()


def test_an_encoders_run_does_not_go_on_with_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            for number in range(2):
                write(tmp_path / "site" / split / name / f"{number}.png", image(number))
    content = {
        **RECIPE,
        "task": "classification",
        "network": "lednet",
        "train": [{"dataset": "class_folders", "split": "train"}],
        "validation": {"dataset": "class_folders", "split": "val"},
        "width": 32,
        "height": 32,
        "augmentation": {"width": 32, "height": 32},
        "epochs": 1,
        "batch_size": 2,
    }
    del content["label_set"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    assert train(recipe) == 0
    assert train(recipe) == 0
    assert "has ended: nothing was trained" in caplog.text
    write(tmp_path / "site" / "train" / "cat" / "2.png", np.zeros((48, 64, 3), np.uint8))
    assert train(recipe) == 2
    assert "data set class_folders train had 4 frames at its start, and now has 5" in capsys.readouterr().err
