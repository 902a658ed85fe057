"""Distillation: soft labels of an ensemble, their loss, and a training that learns from them alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from support.tiny_recipe import RECIPE

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")

from support.models import save_untrained  # noqa: E402

from rt_segmentation.data.synthetic import StreetScene  # noqa: E402
from rt_segmentation.inference.network import load_network  # noqa: E402
from rt_segmentation.models import ModelError, ModelManifest, read_manifest  # noqa: E402
from rt_segmentation.networks import build_network  # noqa: E402
from rt_segmentation.training.distillation import Teachers, soft_loss  # noqa: E402
from rt_segmentation.training.errors import TrainingError  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.recipe import Distillation, load_recipe  # noqa: E402
from rt_segmentation.training.run import train  # noqa: E402


def logits(seed: int) -> Any:
    return torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_mean_divergence_of_the_pixels(temperature: float) -> None:
    student, teacher = logits(1), logits(2)
    p, q = (softmax(values.numpy() / temperature) for values in (teacher, student))
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    got = soft_loss(student, torch.from_numpy(p).float(), temperature)
    assert float(got) == pytest.approx(expected, rel=1e-5)
    same = soft_loss(teacher, torch.from_numpy(p).float(), temperature)
    assert float(same) == pytest.approx(0, abs=1e-6)


def test_an_ensemble_is_the_mean_over_models_scales_and_mirror_images(small_model: ModelManifest) -> None:
    settings = Distillation(("a", "b"), temperature=2.0, scales=(1.0, 0.5), flip=True)
    brighter = ModelManifest(**{**vars(small_model), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)})
    teachers = Teachers([small_model, brighter], settings)
    picture = torch.from_numpy(StreetScene(3, 128, 96).render(1.0)[0]).permute(2, 0, 1)
    images = torch.stack([picture, picture.flip(2).flip(1)])
    network, expected = load_network(small_model), []
    for mean, std in ((0.0, 1.0), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))):
        shift, spread = (torch.tensor(v).float().expand(3).view(1, 3, 1, 1) for v in (mean, std))
        normalised = (images.float() / 255 - shift) / spread
        half = torch.nn.functional.interpolate(normalised, (48, 64), mode="bilinear", antialias=True)
        for view in (normalised, half):
            # In the teachers' memory format: ENet's pooling breaks ties by the order of its sums.
            view = view.contiguous(memory_format=torch.channels_last)
            for turn in (False, True):
                with torch.no_grad():
                    out = network(view.flip(3)).flip(3) if turn else network(view)
                out = torch.nn.functional.interpolate(out, (96, 128), mode="bilinear")
                expected.append((out / 2).softmax(1))
    got = teachers.probabilities(images)
    np.testing.assert_allclose(got.numpy(), torch.stack(expected).mean(0).numpy(), atol=1e-5)
    np.testing.assert_allclose(got.sum(1).numpy(), 1, atol=1e-5)
    assert not got.requires_grad
    assert copy.deepcopy(teachers) is teachers, "averaged weights copy the module"


def unlabelled_frames(folder: Path) -> None:
    for index in range(4):
        image, _ = StreetScene(20 + index, 96, 64).render(1.0)
        for kind, pixels in (("images", image[..., ::-1]), ("labels", np.full((64, 96), 255, np.uint8))):
            path = folder / "train" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), pixels)


def write_recipe(folder: Path, teachers: list[str], **changes: Any) -> Path:
    street = {"dataset": "street", "scenes": 1, "frames_per_scene": 2, "first_seed": 50}
    content = {
        **RECIPE,
        "train": [{"dataset": "folder", "split": "train"}],
        "validation": {**street, "width": 96, "height": 64},
        "epochs": 2,
        "batch_size": 2,
        "ema": 0.5,
        "distillation": {"teachers": teachers},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_frames_without_labels_are_learnt_from_the_teachers(
    tmp_path: Path, small_model: ModelManifest
) -> None:
    unlabelled_frames(tmp_path)
    machine = Machine.here("fp32", workers=0)
    # Each frame twice an epoch: an epoch's end takes longer than a step.
    twice = [{"dataset": "folder", "split": "train"}] * 2
    recipe = load_recipe(write_recipe(tmp_path, [str(small_model.path)], epochs=6, train=twice))
    manifest = train(recipe, tmp_path, tmp_path / "out", machine)
    assert manifest is not None
    assert manifest.training["teachers"] == {str(small_model.path): small_model.sha256}
    rows = (tmp_path / "out" / "tiny" / "log.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss")
    losses = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert losses[0] > 0 and np.mean(losses[-2:]) < 0.8 * np.mean(losses[:2])
    # The teachers are no part of what is saved.
    checkpoint = torch.load(tmp_path / "out" / "tiny" / "last.ckpt", weights_only=True)
    assert len(checkpoint["state_dict"]) == len(checkpoint["current_model_state"])
    parts = {key.split(".")[0] for key in checkpoint["state_dict"]}
    assert parts == {"network", "mean", "std", "loss"}
    assert read_manifest(tmp_path / "out" / "tiny" / "tiny.yaml").parameters == small_model.parameters


def test_a_teacher_that_cannot_teach_is_named(tmp_path: Path, small_model: ModelManifest) -> None:
    unlabelled_frames(tmp_path)
    machine = Machine.here("fp32", workers=0)

    def start(teacher: str, **changes: Any) -> None:
        recipe = load_recipe(write_recipe(tmp_path, [teacher], **changes))
        train(recipe, tmp_path, tmp_path / "out", machine)

    with pytest.raises(ModelError, match="unknown model 'nobody'"):
        start("nobody")
    with pytest.raises(TrainingError, match=r"teacher '.*weights' is an encoder alone"):
        (tmp_path / "encoder.weights").write_bytes(b"")
        start(str(tmp_path / "encoder.weights"))
    labels = tmp_path / "two.yaml"
    classes = [
        {"id": i, "name": n, "color": [i, i, i], "category": "x"} for i, n in enumerate(("one", "two"))
    ]
    labels.write_text(yaml.safe_dump({"name": "two", "classes": classes}))
    folder = {"dataset": "folder", "split": "train"}
    with pytest.raises(TrainingError, match=r"has the classes of camvid11, recipe 'tiny' wants .*two\.yaml"):
        path = tmp_path / "train" / "labels" / "0.png"
        assert cv2.imwrite(str(path), np.ones((64, 96), np.uint8))
        start(str(small_model.path), label_set=str(labels), validation=folder)
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_go_on_with_a_teacher_that_was_trained_anew(
    tmp_path: Path, small_model: ModelManifest
) -> None:
    unlabelled_frames(tmp_path)
    teacher = save_untrained(tmp_path / "teacher.yaml", build_network("enet", 11), "enet", (96, 64))
    recipe = load_recipe(write_recipe(tmp_path, [str(small_model.path), str(teacher.path)], epochs=1))

    def start() -> None:
        assert train(recipe, tmp_path, tmp_path / "out", Machine.here("fp32", workers=0)) is not None

    start()
    # Ended: nothing is trained.
    start()
    save_untrained(tmp_path / "teacher.yaml", build_network("enet", 11), "enet", (96, 64))
    with pytest.raises(
        TrainingError, match="other data: its teacher 2 of 2 has other weights than at its st"
    ):
        start()
