"""Augmentation of whole batches on the device that trains: the same pixels as OpenCV's, frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from support.tiny_recipe import RECIPE

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from rt_segmentation.data.appearance import Appearance, hue_turn  # noqa: E402
from rt_segmentation.data.augment import Augmentation  # noqa: E402
from rt_segmentation.data.dataset import Sample  # noqa: E402
from rt_segmentation.data.mixing import Mixing, mix_amplitudes  # noqa: E402
from rt_segmentation.data.synthetic import StreetScene  # noqa: E402
from rt_segmentation.training import losses  # noqa: E402
from rt_segmentation.training import module as training_module  # noqa: E402
from rt_segmentation.training.errors import TrainingError  # noqa: E402
from rt_segmentation.training.losses import SegmentationLoss  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.module import SegmentationModule  # noqa: E402
from rt_segmentation.training.on_device import looks  # noqa: E402
from rt_segmentation.training.on_device.draws import WIDTHS, draw, fields_of  # noqa: E402
from rt_segmentation.training.on_device.views import Views  # noqa: E402
from rt_segmentation.training.preview import batch_picture  # noqa: E402
from rt_segmentation.training.recipe import Loss, load_recipe  # noqa: E402
from rt_segmentation.training.run import Training, train  # noqa: E402

ALL = Appearance(0.6, 0.15, 12.0, 1.0, 8.0, 40, 0.5, 0.4, 0.3, 0.1)
SMALL = {"width": 32, "height": 32, "appearance": {"noise": 4.0}}
PLAIN = Augmentation(96, 64, brightness=0, contrast=0, saturation=0)


def street(seed: int, width: int = 128, height: int = 96) -> Sample:
    image, labels = StreetScene(seed, width, height).render(1.0)[:2]
    return Sample(np.ascontiguousarray(image), labels, f"street{seed}")


def batch(*images: np.ndarray) -> Any:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)).float()


def back(pixels: Any) -> np.ndarray:
    return np.asarray(pixels.permute(0, 2, 3, 1).numpy())


def amounts(*values: float) -> Any:
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (40, 1)], ids=str)
def test_crops_of_lines_and_points_are_opencvs(size: tuple[int, int], fit: bool) -> None:
    width, height = size
    whole = street(1)
    frame = Sample(whole.image[-height:, :width].copy(), whole.labels[-height:, :width].copy(), "thin")
    assert (frame.labels != 255).all()
    augmentation = replace(PLAIN, width=48, height=32, min_scale=0.5, fit=fit)
    views = Views([frame], augmentation, Mixing(), 3)
    indices = torch.zeros(8, dtype=torch.int64)
    table = views.draw(indices, 5, 0)
    images, labels = views.make(indices, table)
    for matrix, image, of in zip(fields_of(table).crop.view(-1, 2, 3).double().numpy(), images, labels):
        linear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(frame.image, matrix, (48, 32), flags=linear, borderValue=(128,) * 3)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).mean() < 1
        nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        truth = cv2.warpAffine(frame.labels, matrix, (48, 32), flags=nearest, borderValue=255)
        assert (of.numpy() == truth).mean() > 0.98
    # Most of a crop is not covered by so little, unless it is stretched to the crop.
    assert fit or (labels == 255).float().mean() > 0.5


@pytest.mark.parametrize(
    "changes", [{}, {"fit": True, "aspect": 0.5}, {"rotation_deg": 20.0, "shear_deg": 10.0}], ids=str
)
def test_crops_are_opencvs(changes: dict[str, Any]) -> None:
    """Of frames of two sizes, the smaller one in a corner of the larger one's canvas."""
    frames = [street(1), street(2, 160, 112)]
    augmentation = replace(PLAIN, min_scale=0.5, **changes)
    views = Views(frames, augmentation, Mixing(), 3)
    indices = torch.tensor([0, 1, 1, 0])
    table = views.draw(indices, 5, 0)
    images, labels = views.make(indices, table)
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    maps = fields_of(table).crop.view(-1, 2, 3).double().numpy()
    for index, matrix, image, of in zip(indices.tolist(), maps, images, labels):
        frame = frames[index]
        how: dict[str, Any] = {"dsize": (96, 64)}
        linear = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(frame.image, matrix, flags=linear, borderValue=(128,) * 3, **how)
        away = np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected)
        assert away.mean() < 1, "OpenCV rounds places to 1/32 px"
        truth = cv2.warpAffine(frame.labels, matrix, flags=nearest, borderValue=255, **how)
        assert (of.numpy() == truth).mean() > 0.98


def test_the_amounts_are_those_of_single_frames() -> None:
    augmentation = replace(PLAIN, brightness=0.3, contrast=0.2, saturation=0.1, appearance=ALL)
    count = 4000
    table = draw(
        augmentation, Mixing(0.3, paste=0.4), np.full((count, 2), (128, 96)), np.random.default_rng(1)
    )
    assert table.shape == (count, sum(WIDTHS.values())) and table.dtype == np.float32
    draws = fields_of(torch.from_numpy(table))
    low, high = (getattr(draws.color, end)(0).values.tolist() for end in ("min", "max"))
    np.testing.assert_allclose(low, (0.7, 0.8, 0.9), atol=0.01)
    np.testing.assert_allclose(high, (1.3, 1.2, 1.1), atol=0.01)
    assert float(draws.gamma.log().abs().max()) == pytest.approx(np.log(1.6), abs=0.01)
    assert (draws.gains - 1).abs().max() <= 0.15
    for chance, of in ((0.5, draws.blur), (0.5, draws.noise), (0.5, draws.quality), (0.4, draws.paste)):
        assert float((of > 0).float().mean()) == pytest.approx(chance, abs=0.03)
    assert float((draws.shadow[:, 0] < 1).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float((draws.amplitude > 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert draws.quality[draws.quality > 0].min() == 40 and draws.quality.max() == 100
    grays = (draws.matrix.view(-1, 3, 3)[:, 0] == draws.matrix.view(-1, 3, 3)[:, 1]).all(1)
    assert float(grays.float().mean()) == pytest.approx(0.1, abs=0.02)
    none = draw(PLAIN, Mixing(), np.full((9, 2), (128, 96)), np.random.default_rng(1))
    still = fields_of(torch.from_numpy(none))
    for name in ("vignette", "blur", "noise", "quality", "amplitude", "paste"):
        assert not getattr(still, name).any()
    assert (still.color == 1).all() and (still.gains == 1).all() and (still.gamma == 1).all()
    assert (still.shadow[:, 0] == 1).all() and not still.fog[:, 0].any()
    np.testing.assert_allclose(still.matrix.view(-1, 3, 3), np.tile(np.eye(3), (9, 1, 1)), atol=1e-6)


def test_colors_are_those_of_single_frames() -> None:
    image = street(3).image
    found = looks.recolor(batch(image), torch.tensor([[1.3, 0.7, 0.5]]))
    pixels = image.astype(np.float64)
    gray = pixels @ (0.299, 0.587, 0.114)
    saturated = (pixels - gray[..., None]) * 0.5 + gray[..., None]
    expected = np.clip(((saturated - gray.mean()) * 0.7 + gray.mean()) * 1.3, 0, 255)
    np.testing.assert_allclose(back(found)[0], expected, atol=0.01)

    turn = hue_turn(10.0)
    toned = looks.tone(
        batch(image), torch.tensor(turn.reshape(1, 9)).float(), torch.tensor([[1.1, 1.0, 0.9]]), amounts(1.4)
    )
    turned = np.clip(pixels @ turn.T, 0, 255)
    np.testing.assert_allclose(
        back(toned)[0], np.clip(255 * (turned / 255) ** 1.4 * (1.1, 1, 0.9), 0, 255), atol=0.05
    )


@pytest.mark.parametrize("quality", [10, 40, 75, 95, 100])
def test_jpeg_is_the_codecs(quality: int) -> None:
    image = street(4, 160, 120).image
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    both = back(looks.jpeg(batch(image, image), amounts(quality, 0)))
    assert np.abs(both[0] - decoded).mean() < 1.5
    assert np.abs(both[0] - decoded).mean() < 0.6 * np.abs(image - decoded).mean()
    np.testing.assert_array_equal(both[1], image)


def test_blur_and_amplitudes_are_those_of_single_frames() -> None:
    image, other = street(5).image, street(6).image
    blurred = back(looks.blur(batch(image, image), amounts(0.9, 0.0), 1.0))
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(blurred[0] - cv2.GaussianBlur(image, (0, 0), 0.9).astype(float))[inner].max() < 2
    np.testing.assert_allclose(blurred[1], image, atol=1e-3)
    mixed = back(looks.mix_amplitudes(batch(image, image), batch(other, other), 0.05, amounts(0.6, 0.0)))
    assert np.abs(mixed[0] - mix_amplitudes(image, other, 0.05, 0.6).astype(float)).max() < 1
    np.testing.assert_allclose(mixed[1], image, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 48), (1, 1), (1, 9), (3, 2)], ids=str)
def test_a_blur_may_be_wider_than_the_frame(size: tuple[int, int]) -> None:
    image = street(7).image[: size[1], : size[0]]
    (blurred,) = back(looks.blur(batch(image), amounts(25.0), 25.0))
    expected = cv2.GaussianBlur(image.astype(np.float32), (151, 151), 25.0, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(blurred, expected, atol=0.1)


def test_mixing_needs_two_frames(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, batch_size=1))
    with pytest.raises(TrainingError, match=r"mixes frames .* one at a time; set batch_size to 2 or"):
        Training.prepare(recipe, None, Machine.here("fp32", 0))
    Training.prepare(replace(recipe, mixing=Mixing()), None, Machine.here("fp32", 0))


def test_shadow_vignette_and_fog_lie_where_they_should() -> None:
    white = np.full((96, 128, 3), 200, np.uint8)
    shadowed = replace(PLAIN, width=128, height=96, appearance=Appearance(shadow=1.0))
    table = draw(shadowed, Mixing(), np.full((20, 2), (128, 96)), np.random.default_rng(2))
    draws = fields_of(torch.from_numpy(table))
    lit = looks.light(batch(*[white] * 20), draws.shadow, amounts(*[0.0] * 20), torch.zeros(20, 2))
    for factor, lines, picture in zip(draws.shadow[:, 0].tolist(), draws.shadow[:, 1:], back(lit)):
        y, x = np.mgrid[:96, :128]
        a, b, c = lines.view(-1, 3).T.numpy()[..., None, None]
        depth = (a * x + b * y + c).min(0)
        np.testing.assert_allclose(picture[depth > 3], 200 * factor, rtol=1e-3)
        np.testing.assert_allclose(picture[depth < -3], 200, rtol=1e-3)
        assert (depth > 0).any(), "the outline is turned the right way"
    none = torch.cat((torch.ones(1, 1), torch.zeros(1, 12)), 1)
    (dark,) = back(looks.light(batch(white), none, amounts(0.4), torch.zeros(1, 2)))
    assert dark[0, 0, 0] == pytest.approx(120, abs=0.5) and dark[48, 64, 0] == pytest.approx(200, abs=0.5)
    (foggy,) = back(looks.light(batch(white), none, amounts(0.0), torch.tensor([[0.5, 100.0]])))
    assert foggy[0, 0, 0] == pytest.approx(150, abs=0.5) and foggy[-1, 0, 0] == pytest.approx(200, abs=0.5)


@pytest.mark.parametrize("classes", [(), (2, 8)])
def test_things_are_pasted_with_their_labels(classes: tuple[int, ...]) -> None:
    frames = [street(seed) for seed in range(6)]
    # Each class has a gray of its own.
    frames = [Sample((s.labels * 20)[..., None].repeat(3, 2), s.labels, s.name) for s in frames]
    still = replace(PLAIN, min_scale=1.0, max_scale=1.0, width=128, height=96)
    indices = torch.arange(6)
    mixing = Mixing(paste=1.0, paste_classes=classes)
    views = Views(frames, still, mixing, 1)
    table = views.draw(indices, 0, 0)
    plain = Views(frames, still, Mixing(), 1)
    _, before = plain.make(indices, table)
    images, after = views.make(indices, table)
    labelled = after != 255
    np.testing.assert_allclose(images[:, 0][labelled], (after * 20)[labelled], atol=1)
    changed = after != before
    assert changed.any()
    assert (after[changed] == before.roll(1, 0)[changed]).all()
    if classes:
        assert set(np.unique(after[changed]).tolist()) <= set(classes)
        for c in classes:
            assert (after[before.roll(1, 0) == c] == c).all()


def recipe_file(folder: Path, **changes: Any) -> Path:
    part = {"dataset": "street", "frames_per_scene": 1, "width": 96, "height": 64}
    content = {
        **RECIPE,
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


class Replayed:
    """What a CUDA graph makes of the passes: gradients stay where they are, and are replaced."""

    def __init__(self, passes: Any, parameters: list[Any], buffers: list[Any], dtype: Any) -> None:
        self._passes, self._parameters = passes, parameters
        self._places = [torch.zeros_like(p) for p in parameters]
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
        augmentation=replace(PLAIN, appearance=ALL),
    )
    names = tuple("abcdefghijk")
    loss = SegmentationLoss(recipe.loss, np.ones(len(names)))
    module = SegmentationModule(recipe, names, frozenset(), loss, 9).to("meta")
    module._trainer = type("Trainer", (), {"world_size": 1})()
    views = Views([street(1), street(2)], recipe.augmentation, recipe.mixing, 1)
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
