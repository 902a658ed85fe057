"""Trainings whose batches are augmented on the device, and passes that are recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")

from support import small_network  # noqa: E402
from support.tiny_recipe import RECIPE  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rt_segmentation.data.appearance import Appearance  # noqa: E402
from rt_segmentation.data.augment import Augmentation  # noqa: E402
from rt_segmentation.data.mixing import Mixing  # noqa: E402
from rt_segmentation.data.street_dataset import Street  # noqa: E402
from rt_segmentation.training import losses  # noqa: E402
from rt_segmentation.training import module as training_module  # noqa: E402
from rt_segmentation.training.errors import TrainingError  # noqa: E402
from rt_segmentation.training.losses import SegmentationLoss  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.module import SegmentationModule  # noqa: E402
from rt_segmentation.training.on_device import looks  # noqa: E402
from rt_segmentation.training.on_device.draws import WIDTHS  # noqa: E402
from rt_segmentation.training.on_device.views import Views  # noqa: E402
from rt_segmentation.training.preview import batch_picture  # noqa: E402
from rt_segmentation.training.recipe import Loss, load_recipe  # noqa: E402
from rt_segmentation.training.run import Training, train  # noqa: E402

EVERY_LOOK = Appearance(0.6, 0.15, 12.0, 1.0, 8.0, 40, 0.5, 0.4, 0.3, 0.1)
SMALL = {"width": 32, "height": 32, "appearance": {"noise": 4.0}}
PLAIN = Augmentation(96, 64, brightness=0, contrast=0, saturation=0)


def recipe_file(folder: Path, **changes: Any) -> Path:
    part = {"dataset": "street", "frames_per_scene": 1, "width": 96, "height": 64}
    content = {
        **RECIPE,
        "network": small_network.SMALL,
        "train": [
            {**part, "scenes": 9, "first_seed": 1000},
            {**part, "scenes": 3, "first_seed": 1, "width": 64},
        ],
        "validation": {**part, "scenes": 2, "first_seed": 50},
        "augmentation": {
            **{"width": 64, "height": 64, "min_scale": 0.5, "max_scale": 1.0},
            "appearance": {
                "gamma": 0.3,
                "blur": 0.5,
                "noise": 4.0,
                "jpeg": 50,
                "shadow": 0.5,
                "hue_deg": 5.0,
            },
        },
        "mixing": {"amplitude": 0.5, "paste": 0.5},
        "augment_on": "device",
        "epochs": 2,
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_training_and_its_sample_batch(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path))
    training = Training.prepare(recipe, None, Machine.here("fp32", 1))
    assert batch_picture(training).std() > 10
    views = training.module.views
    assert views is not None
    indices = torch.tensor([3, 11, 0, 5])
    made = []
    for step in (7, 7, 8):
        # Noise and pasted classes are drawn on the device, from the numbers that a step seeds.
        torch.manual_seed(step)
        made.append(views.make(indices, views.draw(indices, step, 0)))
    for first, second, third in zip(*made):
        assert (first == second).all() and (first != third).any()
    trainer = {"world_size": 1, "global_rank": 0, "global_step": 0, "precision": "32-true"}
    training.module._trainer = type("Trainer", (), trainer)()
    assert training.module._loss_on_device(views, indices) > 0
    assert not training.module._inputs, "memory of a batch that nothing is recorded for"
    manifest = train(recipe, None, tmp_path / "out", Machine.here("fp32", 0))
    assert manifest is not None and manifest.training["frames_seen"] == 24
    other = train(recipe, None, tmp_path / "other", Machine.here("fp32", 0))
    assert other is not None and other.sha256 == manifest.sha256


def test_mixing_needs_two_frames(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, batch_size=1))
    with pytest.raises(TrainingError, match=r"mixes frames .* one at a time; set batch_size to 2 or"):
        Training.prepare(recipe, None, Machine.here("fp32", 0))
    Training.prepare(replace(recipe, mixing=Mixing()), None, Machine.here("fp32", 0))


class Replayed:
    """What a CUDA graph makes of the passes: gradients stay where they are, and are replaced."""

    def __init__(self, passes: Any, parameters: list[Any], buffers: list[Any], dtype: Any) -> None:
        self._passes, self._parameters = passes, parameters
        self._places = [torch.zeros_like(p) for p in parameters]
        # As passes with dropout do before the recording.
        torch.rand(3)
        for parameter, place in zip(parameters, self._places):
            parameter.grad = place

    def __call__(self) -> Any:
        loss = self._passes()
        gradients = torch.autograd.grad(loss, self._parameters)
        for place, gradient in zip(self._places, gradients):
            place.copy_(gradient)
        return loss.detach()


def test_recorded_passes_train_as_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a validation, which frees gradients, and with averaged weights, which it swaps."""
    recipe = load_recipe(recipe_file(tmp_path, ema=0.5, augmentation=SMALL))
    expected = train(recipe, None, tmp_path / "plain", Machine.here("fp32", 0))
    monkeypatch.setattr(training_module, "RecordedPasses", Replayed)
    monkeypatch.setattr(SegmentationModule, "_records", lambda self: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    recorded = train(recipe, None, tmp_path / "recorded", Machine.here("fp32", 0))
    assert expected is not None and recorded is not None and recorded.sha256 == expected.sha256


def test_a_loss_that_is_no_number_is_found_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "optimizer": {"name": "sgd", "learning_rate": 1e30},
        "epochs": 4,
        "augmentation": SMALL,
    }
    recipe = load_recipe(recipe_file(tmp_path, **changes))
    monkeypatch.setattr(training_module, "RecordedPasses", Replayed)
    monkeypatch.setattr(SegmentationModule, "_records", lambda self: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    with pytest.raises(Exception, match=r"the loss is (nan|inf) at step 10 .* since one of the 9 before it"):
        train(recipe, None, tmp_path, Machine.here("fp32", 0))


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what a CUDA graph cannot record: tensors of the CPU among those that an operation has."""

    found: set[str]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = torch.utils._pytree.tree_leaves((args, kwargs, result))
        if any(isinstance(t, torch.Tensor) and t.device.type == "cpu" for t in tensors):
            self.found.add(str(function))
        return result


@pytest.fixture
def meta_is_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors without values stand for those of a GPU: what reads a value of theirs fails."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda t: t.device.type == "meta"), raising=False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    caches = (looks._constant, looks._waves, looks._times)
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.usefixtures("meta_is_cuda")
@pytest.mark.parametrize("network", ["enet", "lednet", "linknet"])
def test_what_is_recorded_neither_sends_nor_reads_values(network: str) -> None:
    recipe = replace(
        load_recipe("enet_open_road_gpu"),
        network=network,
        loss=Loss(dice=1.0, lovasz=1.0),
        augmentation=replace(PLAIN, appearance=EVERY_LOOK),
    )
    names = tuple("abcdefghijk")
    loss = SegmentationLoss(recipe.loss, np.ones(len(names)))
    module = SegmentationModule(recipe, names, frozenset(), loss, 9).to("meta")
    module._trainer = type("Trainer", (), {"world_size": 1})()
    frames = Street(2, 1, 1, 128, 96)
    views = Views([frames[0], frames[1]], recipe.augmentation, recipe.mixing, 1)
    views.to(torch.device("meta"))
    indices = torch.zeros(4, dtype=torch.int64, device="meta")
    table = torch.zeros(4, sum(WIDTHS.values()), device="meta")
    # The first passes send the constants.
    for _ in range(2):
        watch: Any = Watched()  # type: ignore[no-untyped-call]
        watch.found = set()
        with watch:
            loss_of_batch: Any = module.loss_of(*views.make(indices, table))
            loss_of_batch.backward()
    assert not watch.found


@pytest.mark.parametrize("unlabelled", [0.2, 1.0])
def test_the_losses_of_a_gpu_are_those_of_a_cpu(unlabelled: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are sums of other terms, which wait for nothing; a frame may have no label at all."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 5, 24, 32, generator=generator).requires_grad_()
    labels = torch.randint(0, 4, (2, 24, 32), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < unlabelled] = 255
    weights = np.array([1.0, 2.0, 3.0, 0.5, 1.0])
    for settings in (Loss(), Loss(label_smoothing=0.1), Loss(cross_entropy=0.5, dice=1.0, lovasz=2.0)):
        expected = SegmentationLoss(settings, weights)(logits, labels)
        (expected_gradient,) = torch.autograd.grad(expected, logits)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "is_cuda", True)
            of_classes = torch.from_numpy(weights).float()
            found = settings.cross_entropy * losses.cross_entropy(
                logits, labels, of_classes, settings.label_smoothing
            )
            probabilities = logits.softmax(1)
            if settings.dice:
                found = found + settings.dice * losses.dice_loss(probabilities, labels)
            if settings.lovasz:
                of_pixels, constant = losses._lovasz(probabilities.detach(), labels)
                found = found + settings.lovasz * ((probabilities * of_pixels).sum() + constant)
            (gradient,) = torch.autograd.grad(found, logits)
        np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
