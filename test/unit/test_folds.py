"""Cross-validation: frames grouped by their names, one group left out at a time, and the table."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.tiny_recipe import RECIPE

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")

from support.small_network import SMALL  # noqa: E402
from support.small_training import street  # noqa: E402

from rt_segmentation import cli  # noqa: E402
from rt_segmentation.data.dataset import DatasetError  # noqa: E402
from rt_segmentation.data.registry import open_dataset as open_by_name  # noqa: E402
from rt_segmentation.data.selection import frame_names, group_of, groups_of, leave_out  # noqa: E402
from rt_segmentation.data.street_dataset import Street  # noqa: E402
from rt_segmentation.evaluation.dataset import evaluate  # noqa: E402
from rt_segmentation.evaluation.metrics import ConfusionMatrix  # noqa: E402
from rt_segmentation.inference.segmenter import Segmenter  # noqa: E402
from rt_segmentation.models import read_manifest  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.recipe import Folds, RecipeError, load_recipe  # noqa: E402
from rt_segmentation.training.run import Training  # noqa: E402


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Two streets to train on and one to validate, of three frames each; a street is a fold."""
    content = {
        **RECIPE,
        "network": SMALL,
        "train": [street(2, 1000, 3)],
        "validation": street(1, 50, 3),
        "epochs": 1,
        "folds": {"by": r"^street(\d+)_"},
        **changes,
    }
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def call(recipe: Path, *arguments: str) -> int:
    out = ["--out", str(recipe.parent / "out"), "--workers", "0", "--precision", "fp32"]
    return cli.main(["train", str(recipe), *out, *arguments])


@pytest.mark.parametrize(
    ("pattern", "name", "group"),
    [
        ("^([^_]+)_", "0001TP_006690", "0001TP"),
        ("^[^_]+", "0016E5_00390", "0016E5"),
        ("_(leftImg|rightImg)", "aachen_000001", None),
        ("^(street)?", "other", None),
    ],
)
def test_a_pattern_finds_the_group(pattern: str, name: str, group: str | None) -> None:
    compiled = re.compile(pattern)
    if pattern == "^(street)?":
        with pytest.raises(DatasetError, match="makes the group '' of the frame other"):
            group_of(compiled, name)
    else:
        assert group_of(compiled, name) == group


def test_a_group_that_is_no_folders_name_is_refused() -> None:
    for name in ("a/b_1", ".._1"):
        with pytest.raises(DatasetError, match="a group is made of letters"):
            group_of(re.compile("^(.+)_"), name)


def test_every_frame_is_left_out_once_and_never_trained_on_then() -> None:
    parts = [Street(2, 3, 1000, 64, 48), Street(1, 2, 50, 64, 48)]
    everything = sorted(name for part in parts for name in frame_names(part))
    assert everything == sorted(part[i].name for part in parts for i in range(len(part)))
    pattern = re.compile(r"^street(\d+)_")
    assert groups_of(parts, pattern) == {"1000": 3, "1001": 3, "50": 2}
    left_out = []
    for group in ("1000", "1001", "50"):
        kept, left = leave_out(parts, pattern, group)
        trained = [part[i].name for part in kept for i in range(len(part))]
        measured = [left[i].name for i in range(len(left))]
        assert all(name.startswith(f"street{group}_") for name in measured)
        assert sorted(trained + measured) == everything
        left_out += measured
    assert sorted(left_out) == everything
    # Frames without a group are always trained on.
    kept, left = leave_out(parts, re.compile("^street(1000)_"), "1000")
    assert sum(len(part) for part in kept) == 5
    with pytest.raises(DatasetError, match=r"there is no fold '7'; .* makes 1000, 1001, 50"):
        leave_out(parts, pattern, "7")
    with pytest.raises(DatasetError, match="without the fold 'street' there is no frame to train on"):
        leave_out(parts, re.compile("^(street)"), "street")


def test_camvids_drives_are_its_folds(shared_data: Path) -> None:
    parts = [open_by_name("camvid", shared_data / "camvid", split) for split in ("train", "val")]
    folds = load_recipe(Path(__file__).parents[2] / "research/ablations/enet_folds.yaml").folds
    assert folds is not None and folds.join_validation
    assert groups_of(parts, re.compile(folds.by)) == {"0001TP": 62, "0006R0": 101, "0016E5": 305}


def test_a_folds_training_sees_the_other_frames_alone(tmp_path: Path) -> None:
    folds = {"by": r"^street(\d+)_", "leave_out": "1001"}
    recipe = load_recipe(write_recipe(tmp_path, batch_size=2, folds=folds))
    training = Training.prepare(recipe, None, Machine.here("fp32", workers=0))
    names = [training.frames.frame(index).name for index in range(len(training.frames))]
    assert names == [f"street{seed}_00{i}" for seed in (1000, 50) for i in range(3)]
    assert [training.validation[i].name for i in range(3)] == [f"street1001_00{i}" for i in range(3)]
    counted = training.counts.pixels.sum()
    assert counted == len(names) * 96 * 64
    path = write_recipe(tmp_path, batch_size=2, folds={**folds, "join_validation": False})
    apart = load_recipe(path)
    training = Training.prepare(apart, None, Machine.here("fp32", workers=0))
    assert {training.frames.frame(index).name[:10] for index in range(len(training.frames))} == {"street1000"}


def test_folds_are_trained_measured_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, batch_size=2)
    run = tmp_path / "out" / "tiny"
    assert call(recipe, "--folds", "--dry-run") == 0
    assert capsys.readouterr().out == "fold 1000: 3 frames\nfold 1001: 3 frames\nfold 50: 3 frames\n"
    assert not run.exists()

    # One fold alone, then the rest; what has ended is not trained again.
    assert call(recipe, "--fold", "1001") == 0
    assert "Not trained yet: 1000, 50; the mean is of the others." in (run / "folds.md").read_text()
    first = (run / "folds" / "tiny_1001" / "tiny_1001.safetensors").stat().st_mtime_ns
    (run / "folds" / "tiny_1001" / "last.ckpt").unlink()
    assert call(recipe, "--folds") == 0
    assert (run / "folds" / "tiny_1001" / "tiny_1001.safetensors").stat().st_mtime_ns == first
    table = yaml.safe_load((run / "folds.yaml").read_text())
    assert list(table["folds"]) == ["1000", "1001", "50"] and table["missing"] == []
    scores = []
    for name, fold in table["folds"].items():
        manifest = read_manifest(run / fold["model"])
        (score,) = manifest.scores
        assert (score.dataset, score.split) == ("street", f"fold {name}")
        assert score.value == fold["mean_iou"]
        assert manifest.training["folds"] == {"by": r"^street(\d+)_", "leave_out": name}
        assert (manifest.training["frames"], manifest.training["frames_seen"]) == (6, 6)
        assert manifest.training["epoch"] == 1 and fold["frames"] == 3
        scores.append(score.value)
        # By the evaluation of the stored model on the street itself.
        frames = Street(1, 3, int(name), 96, 64)
        confusion = ConfusionMatrix(11)
        for _, frame in evaluate(Segmenter.build(manifest, "torch", "fp32"), frames):
            confusion.add(frame)
        assert confusion.mean_iou() == pytest.approx(fold["mean_iou"], abs=6e-5)
        ious = {n: v for n, v in zip(frames.label_set.names, confusion.class_iou()) if not np.isnan(v)}
        assert fold["class_iou"] == pytest.approx(ious, abs=6e-5)
    assert table["mean_iou"] == pytest.approx(np.mean(scores), abs=6e-5)
    sky = [fold["class_iou"]["Sky"] for fold in table["folds"].values()]
    assert table["class_iou"]["Sky"] == pytest.approx(np.mean(sky), abs=6e-5)
    lines = (run / "folds.md").read_text().splitlines()
    assert lines[2].startswith("| left out | frames | mean IoU | Sky |")
    assert [line.split(" | ")[0] for line in lines[4:8]] == ["| 1000", "| 1001", "| 50", "| **mean**"]
    assert f"{100 * scores[0]:.1f}" in lines[4]

    # Another recipe in the same folder is refused, not mixed in.
    other = write_recipe(tmp_path, batch_size=2, seed=5)
    assert call(other, "--folds") == 2
    assert "another seed" in capsys.readouterr().err
    # Also by a fold that is not there yet, and before it is trained.
    shutil.rmtree(run / "folds" / "tiny_50")
    assert call(other, "--fold", "50") == 2
    assert "another seed" in capsys.readouterr().err
    assert not (run / "folds" / "tiny_50").exists()


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (["--folds"], {"folds": None}, "recipe 'tiny' has no key 'folds'; give it one"),
        (["--folds"], {"folds": {"by": "^drive"}}, "no frame's name matches the pattern '^drive'"),
        (["--folds"], {"folds": {"by": "^(street)"}}, "are in one group, 'street'"),
        (["--fold", "7"], {}, "recipe 'tiny' has no fold '7'; it has 1000, 1001, 50"),
        (["--folds", "--init-from", "nothing"], {}, "unknown model 'nothing'"),
        (["--from-scratch", "--init-from", "enet"], {}, "exclude one another"),
    ],
)
def test_what_cannot_be_folded_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    assert call(write_recipe(tmp_path, **changes), *arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_start_that_has_seen_the_fold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stage(name: str, **changes: Any) -> Path:
        return write_recipe(tmp_path, name=name, batch_size=2, **changes)

    assert call(stage("first")) == 0
    assert call(stage("second", init_from="first"), "--folds") == 2
    said = capsys.readouterr().err
    assert (
        "recipe 'second_1000' starts from 'first': that was trained on street, whose frames the fold" in said
    )
    assert "--from-scratch" in said
    assert not (tmp_path / "out" / "second").exists()

    # Not even through another model, of which the recipe alone tells.
    manifest = tmp_path / "out" / "first" / "first.yaml"
    content = yaml.safe_load(manifest.read_text())
    content["training"] |= {"train": [{"dataset": "camvid", "split": "train"}], "init_from": "earlier"}
    manifest.write_text(yaml.safe_dump(content))
    second = stage("second", init_from="first")
    assert call(second, "--folds") == 2
    assert "comes of 'earlier', and nothing says what that was trained on" in capsys.readouterr().err
    earlier = content["training"]["init_from"] = str(write_recipe(tmp_path, name="earlier"))
    manifest.write_text(yaml.safe_dump(content))
    assert call(second, "--folds") == 2
    assert f"comes of '{earlier}': that was trained on street" in capsys.readouterr().err

    # A model of other data is a good start, and so is none, and so is the same fold's model.
    content["training"].pop("init_from")
    manifest.write_text(yaml.safe_dump(content))
    assert call(second, "--fold", "1000") == 0
    assert "starts from model 'first'" in capsys.readouterr().out
    third = stage("third", init_from="second", distillation={"teachers": ["second"]})
    assert call(third, "--fold", "1000") == 0
    assert "starts from model 'second_1000'" in capsys.readouterr().out
    trained = read_manifest(tmp_path / "out" / "third" / "folds" / "third_1000" / "third_1000.yaml").training
    fold_model = tmp_path / "out" / "second" / "folds" / "second_1000" / "second_1000.yaml"
    assert list(trained["teachers"]) == [str(fold_model)] and trained["init_from"] == str(fold_model)
    # A third stage finds all that the second has learnt from.
    assert call(stage("last", init_from="third"), "--fold", "1000") == 0
    capsys.readouterr()
    assert call(third, "--fold", "1001") == 2, "the fold 1001 of second was not trained"
    assert "unknown model 'second'" in capsys.readouterr().err
    for key, verb in (("init_from", "starts"), ("distillation", "learns")):
        value: Any = str(fold_model) if key == "init_from" else {"teachers": [str(fold_model)]}
        wrong = stage("fourth", **{key: value})
        assert call(wrong, "--fold", "1001") == 2
        said = capsys.readouterr().err
        assert f"'fourth_1001' {verb} from '{fold_model}': that was trained on street" in said
    assert call(stage("fifth", init_from="first"), "--fold", "1001", "--from-scratch") == 0
    # What a fold has learnt from a teacher that was trained anew since is of neither.
    capsys.readouterr()
    content = yaml.safe_load(fold_model.read_text())
    fold_model.write_text(yaml.safe_dump({**content, "sha256": "0" * 64}))
    assert call(third, "--fold", "1000") == 2
    assert (
        "third_1000 has a run of other data: its teacher 1 of 1 has other weights" in capsys.readouterr().err
    )


def test_a_wrong_pattern_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        Folds("(")
    with pytest.raises(RecipeError, match="folds: by is '\\('"):
        load_recipe(write_recipe(tmp_path, folds={"by": "("}))
