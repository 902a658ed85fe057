"""Training: recipes, losses, and a run that is interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")

from rt_segmentation.models import load_weights, read_manifest  # noqa: E402
from rt_segmentation.training.losses import SegmentationLoss, class_weights  # noqa: E402
from rt_segmentation.training.recipe import RecipeError, load_recipe  # noqa: E402
from rt_segmentation.training.run import train  # noqa: E402

RECIPE = """
name: tiny
source: a test
network: enet
label_set: camvid11
train:
  - {dataset: street, scenes: 4, frames_per_scene: 2, first_seed: 1000, width: 96, height: 64}
validation: {dataset: street, scenes: 2, frames_per_scene: 1, first_seed: 50, width: 96, height: 64}
width: 96
height: 64
augmentation: {width: 64, height: 64}
epochs: 2
batch_size: 4
learning_rate: 0.001
weight_decay: 0.01
data_license: none
"""


def test_every_shipped_recipe_reads() -> None:
    for name in ("linknet_camvid", "enet_camvid", "lednet_camvid"):
        recipe = load_recipe(name)
        assert recipe.name == name
        assert not any(part.get("split") == "val" for part in recipe.train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs: 2", "epoch: 2"), "unknown key 'epoch'"),
        (("batch_size: 4\n", ""), "batch_size"),
        (("{width: 64, height: 64}", "{width: 64, size: 64}"), "size"),
    ],
)
def test_a_wrong_recipe_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.replace(*change))
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_class_weights_are_the_papers() -> None:
    # ENet, Section 5.2: with c = 1.02 the weights lie in [1, 50], as the paper says.
    weights = class_weights(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(weights, [50.498, 2.3883, 1.4223], rtol=1e-4)


def test_loss_ignores_void_and_rewards_truth() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, 4:] = 255
    logits = torch.zeros(1, 3, 8, 8)
    loss = SegmentationLoss(np.ones(3), dice=1.0)
    right = logits.clone()
    right[:, 0] = 9
    wrong_in_void = right.clone()
    wrong_in_void[:, 1, 4:] = 99
    assert loss(right, labels) < loss(logits, labels)
    assert torch.equal(loss(right, labels), loss(wrong_in_void, labels))


def test_a_run_ends_in_a_model_that_has_its_score(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE)
    manifest = train(load_recipe(path), None, tmp_path / "out", workers=0)
    again = read_manifest(tmp_path / "out" / "tiny.yaml")
    assert again == manifest
    assert load_weights(again)
    (score,) = again.scores
    assert (score.metric, score.dataset) == ("mean_iou", "street")
    assert 0 <= score.value <= 1
    assert again.training["epochs"] == 2
    assert again.parameters == 363_412 + 65 * 11
