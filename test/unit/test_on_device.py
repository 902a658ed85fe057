"""Augmentation of whole batches on the device that trains: the same pixels as OpenCV's, frame by frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")


from rt_segmentation.data.appearance import Appearance, hue_turn  # noqa: E402
from rt_segmentation.data.augment import Augmentation  # noqa: E402
from rt_segmentation.data.dataset import Sample  # noqa: E402
from rt_segmentation.data.mixing import Mixing, mix_amplitudes  # noqa: E402
from rt_segmentation.data.synthetic import StreetScene  # noqa: E402
from rt_segmentation.training.on_device import looks  # noqa: E402
from rt_segmentation.training.on_device.draws import WIDTHS, draw, fields_of  # noqa: E402
from rt_segmentation.training.on_device.views import Views  # noqa: E402

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
