"""Crops show things as large as the model will see them, whatever the camera's size; or a note says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.tiny_recipe import RECIPE

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from support.small_network import SMALL
from support.small_training import here, street

from rt_segmentation import cli
from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.dataset import Sample
from rt_segmentation.data.resized import Resized
from rt_segmentation.data.street_dataset import Street
from rt_segmentation.training.data import TrainingSet, ValidationSet
from rt_segmentation.training.recipe import RecipeError, load_recipe, recipe_names
from rt_segmentation.training.run import Training
from rt_segmentation.training.scales import scale_note

LARGE = {**street(2, 1000, 2), "width": 576, "height": 384}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Frames six times as large as the model's input."""
    content = {
        **RECIPE,
        "network": SMALL,
        "train": [LARGE],
        "validation": {**street(1, 50), "width": 576, "height": 384},
        "augmentation": {"width": 64, "height": 48, "min_scale": 0.6, "max_scale": 2.0},
        "batch_size": 2,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_scales_that_leave_the_models_out_are_told(
    recipe: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(recipe.parent / "out"), "--workers", "0", "--precision", "fp32"]
    assert cli.main(["train", str(recipe), "--dry-run", *out]) == 0
    (note,) = [text for text in caplog.messages if "scale" in text]
    assert note.startswith(
        "training data: the frames are 384 px high, and the model sees them 64 px high, at"
    )
    assert "a scale of 0.17; the augmentation's min_scale 0.6 to max_scale 2 never shows that" in note
    assert note.endswith("or min_scale: 0.1 and max_scale: 0.33")

    # With what it says there is none.
    content = yaml.safe_load(recipe.read_text())
    for right in (
        {"resize_frames": True},
        {"augmentation": {**content["augmentation"], "min_scale": 0.1, "max_scale": 0.33}},
        {"augmentation": {**content["augmentation"], "fit": True}},
    ):
        recipe.write_text(yaml.safe_dump({**content, **right}))
        caplog.clear()
        Training.prepare(load_recipe(recipe), None, here())
        assert not [text for text in caplog.messages if "scale" in text]


def test_resized_frames_are_those_that_the_model_sees(recipe: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**content, "resize_frames": True}))
    training = Training.prepare(load_recipe(recipe), None, here())
    frames = Street(2, 2, 1000, 576, 384)
    for index in range(4):
        sample = training.frames.frame(index)
        seen, _, _ = ValidationSet(frames, 64)[index]
        assert np.array_equal(sample.image, seen.numpy().transpose(1, 2, 0))
        # The pixel under each centre.
        assert np.array_equal(sample.labels, frames[index].labels[3::6, 3::6])
        assert sample.name == frames[index].name
    # The validation's labels stay at their own size, as an evaluation's do.
    assert training.validation[0].labels.shape == (384, 576)


def test_frames_of_any_size_give_crops_of_one_scale() -> None:
    """A square of a tenth of the height is a tenth of the recipe's height, times the scale that was drawn."""
    crop = Augmentation(96, 96, min_scale=1.0, max_scale=1.0, brightness=0, contrast=0, saturation=0)
    shares = []
    for height in (48, 96, 480):
        side = height // 8
        labels = np.zeros((height, height), np.uint8)
        labels[side : 2 * side, side : 2 * side] = 1
        frame = Sample(np.zeros((height, height, 3), np.uint8), labels, "square")
        dataset = Frames([frame])
        shares.append((TrainingSet([Resized(dataset, 96)], crop, 1).augmented(0, 0).labels == 1).mean())
    assert shares == pytest.approx([1 / 64] * 3, rel=0.05)


class Frames:
    """Frames in memory."""

    label_set = Street(1, 1, 0).label_set
    ignored_ids: frozenset[int] = frozenset()

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


def test_only_own_data_resizes_and_it_suits_a_camera_of_any_size() -> None:
    assert [name for name in recipe_names() if load_recipe(name).resize_frames] == ["own_data"]
    recipe = load_recipe("own_data")
    frame = Sample(np.zeros((1080, 1920, 3), np.uint8), np.zeros((1080, 1920), np.uint8), "a")
    crop = recipe.augmentation
    as_before = replace(recipe, resize_frames=False)
    assert "resize_frames: true" in scale_note(as_before, TrainingSet([Frames([frame])], crop, 1))
    assert scale_note(recipe, TrainingSet([Resized(Frames([frame]), recipe.height)], crop, 1)) == ""
    narrow = replace(recipe, augmentation=replace(crop, min_scale=1.5))
    note = scale_note(narrow, TrainingSet([Resized(Frames([frame]), 360)], crop, 1))
    assert note.endswith("never shows that. Give the recipe min_scale: 1 and max_scale: 2")


def test_images_of_classes_are_not_resized(tmp_path: Path) -> None:
    content = {key: value for key, value in RECIPE.items() if key != "label_set"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**content, "task": "classification", "resize_frames": True}))
    with pytest.raises(RecipeError, match="'resize_frames' is of scenes"):
        load_recipe(path)
