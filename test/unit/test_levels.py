"""16-bit samples become the 8 bits that the camera would have sent, wherever in the range they lie."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.dataset_layouts import write
from support.streets import street_scene

from rt_segmentation.data.dataset import DatasetError, levels_of, read_rgb
from rt_segmentation.data.folder import Folder
from rt_segmentation.data.sources import FolderSource, SourceError, open_source
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS, IMAGE_BITS, Levels

W, H = 160, 120
RGB = street_scene(3, W, H).render(0.0)[0]
GREY = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)


def deep(pixels: np.ndarray, bits: int) -> np.ndarray:
    """8-bit samples over the whole range of a camera of more bits."""
    return np.asarray(pixels.astype(np.uint32) * (2**bits - 1) // 255, np.uint16)


def frame(samples: np.ndarray, pixel_format: str = "mono16") -> Frame:
    return Frame((samples,), pixel_format, samples.shape[1], samples.shape[0], 0, "")


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_a_street_is_the_same_as_in_8_bits(bits: int, order: str) -> None:
    said: list[str] = []
    guessing, told = Levels(warn=said.append), Levels(bits, said.append)
    for _ in range(3):
        for levels in (guessing, told):
            result = levels(frame(deep(GREY, bits).astype(order)))
            assert (result.pixel_format, result.width, result.height) == ("mono8", W, H)
            np.testing.assert_array_equal(result.planes[0], GREY)
    (sentence,) = said
    assert f"taken for {bits} bits" in sentence and "set image_bits" in sentence


def test_colours_and_mosaics_keep_their_channels() -> None:
    for pixel_format in EIGHT_BIT_FORMATS:
        channels = 4 if "a16" in pixel_format else 3 if "16" in pixel_format[3:5] else 1
        pixels = GREY if channels == 1 else np.dstack([RGB, np.full_like(GREY, 255)])[..., :channels]
        result = Levels(warn=lambda _: None)(frame(deep(pixels, 12), pixel_format))
        assert result.pixel_format == EIGHT_BIT_FORMATS[pixel_format]
        np.testing.assert_array_equal(result.planes[0], pixels)


def test_an_image_without_levels_decides_alone() -> None:
    expected = np.repeat(GREY[..., None], 3, -1)
    for bits in (10, 12, 14, 16):
        np.testing.assert_array_equal(to_rgb(frame(deep(GREY, bits))), expected)


def test_8_bit_frames_pass_untouched() -> None:
    levels = Levels(warn=lambda _: pytest.fail("guessed"))
    eight = frame(GREY, "mono8")
    assert levels(eight) is eight


def test_the_band_of_a_thermal_camera_is_stretched_and_followed_slowly() -> None:
    said: list[str] = []
    levels = Levels(warn=said.append)
    warm = (7000 + GREY.astype(np.uint16) * 4).astype(np.uint16)
    first = levels(frame(warm)).planes[0]
    assert first.min() == 0 and first.max() == 255
    stretched = np.corrcoef(first.ravel(), GREY.ravel())[0, 1]
    assert stretched > 0.98 and "a band from" in said[0]
    # A hot thing in view moves the range a little at a time, not immediately.
    hot = warm.copy()
    hot[:40] = 12000
    second = levels(frame(hot)).planes[0]
    assert np.abs(second[40:].astype(int) - first[40:]).mean() < 60
    assert (second[:40] == 255).all()


def test_the_guessed_bits_grow_and_never_shrink() -> None:
    said: list[str] = []
    levels = Levels(warn=said.append)
    dark, bright = deep(GREY // 8, 12), deep(GREY, 12)
    levels(frame(dark))
    np.testing.assert_array_equal(levels(frame(bright)).planes[0], GREY)
    np.testing.assert_array_equal(levels(frame(dark)).planes[0], dark >> 4)
    assert len(said) == 2


def test_what_is_above_the_given_bits_is_white() -> None:
    assert (Levels(10)(frame(np.full((H, W), 5000, np.uint16))).planes[0] == 255).all()
    for wrong in ("11", 0, "all"):
        with pytest.raises(ValueError, match=r"image_bits is .* must be one of auto, 8, 10, 12, 14, 16"):
            Levels(wrong)
    assert [Levels(bits).bits for bits in IMAGE_BITS] == list(IMAGE_BITS)


def test_a_settled_guess_stays_and_crosses_processes() -> None:
    levels = Levels(warn=lambda _: None).settle([frame(deep(GREY, 12))])
    for settled in (levels, pickle.loads(pickle.dumps(Levels().settle([frame(deep(GREY, 12))])))):
        assert settled(frame(np.full((H, W), 60000, np.uint16))).planes[0].min() == 255
        np.testing.assert_array_equal(settled(frame(deep(GREY, 12))).planes[0], GREY)


def make_folder(root: Path, images: list[np.ndarray]) -> None:
    for number, pixels in enumerate(images):
        write(root / "images" / f"{number}.png", pixels)
        write(root / "labels" / f"{number}.png", np.zeros(pixels.shape[:2], np.uint8))


def test_one_guess_for_a_data_set_a_folder_and_a_camera(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The darkest image alone would be taken for fewer bits.
    make_folder(tmp_path, [deep(GREY // 8, 12), deep(GREY, 12), deep(GREY // 2, 12)])
    (tmp_path / "site.yaml").write_text("name: s\nclasses:\n  - {id: 0, name: floor, color: [1, 2, 3]}\n")
    dataset = Folder(tmp_path, "", tmp_path / "site.yaml")
    expected = [np.repeat((deep(g, 12) >> 4)[..., None], 3, -1) for g in (GREY // 8, GREY, GREY // 2)]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "taken for 12 bits" in caplog.text
    # In any order, and twice.
    for index in (2, 0, 1, 0):
        np.testing.assert_array_equal(dataset[index].image, expected[index])
    for image, rgb in zip(FolderSource(tmp_path / "images"), expected):
        np.testing.assert_array_equal(image.rgb, rgb)
    caplog.clear()
    told = Folder(tmp_path, "", tmp_path / "site.yaml", image_bits=14)
    np.testing.assert_array_equal(told[1].image, np.repeat((deep(GREY, 12) >> 6)[..., None], 3, -1))
    assert not caplog.records
    with pytest.raises(DatasetError, match="image_bits is 11"):
        Folder(tmp_path, "", tmp_path / "site.yaml", image_bits=11)
    with pytest.raises(SourceError, match="image_bits is '11'"):
        open_source(str(tmp_path / "images"), rate_hz=1.0, image_bits="11")


def test_8_bit_folders_are_not_decoded_to_open_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path, [RGB, RGB])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    levels_of(sorted((tmp_path / "images").iterdir()))


def test_a_single_16_bit_file_is_no_night(tmp_path: Path) -> None:
    write(tmp_path / "a.png", deep(GREY, 12))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png")[..., 0], GREY)
