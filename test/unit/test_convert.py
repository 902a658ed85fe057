"""Frames of known colours in every encoding against the RGB that must come out."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from rt_segmentation.imaging.codec import ENCODINGS, decode_image
from rt_segmentation.imaging.convert import resize_confidence, resize_labels, to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import Levels

Rgb = npt.NDArray[np.uint8]
W, H = 64, 48
MONO = ("mono8", "8UC1", "mono16", "16UC1")
# What an encoding's samples have in 8 bits, and the names that others use for it.
EIGHT = {"8UC4": "bgra8", "16UC1": "mono8", "16UC3": "bgr8", "16UC4": "bgra8"}
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "orange": (230, 130, 20)}


def smooth_rgb(width: int = W, height: int = H) -> Rgb:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.asarray(np.stack([60 + 150 * x, 40 + 160 * y, 200 - 120 * x * y], -1).round(), np.uint8)


def plain(colour: tuple[int, int, int]) -> Rgb:
    return np.full((H, W, 3), colour, np.uint8)


def yuv601(rgb: Rgb) -> npt.NDArray[np.uint8]:
    """ITU-R BT.601, limited range, 8 bit, from Kr = 0.299 and Kb = 0.114."""
    red, green, blue = np.moveaxis(rgb / 255.0, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    channels = 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.772, 128 + 224 * (red - luma) / 1.402
    yuv: npt.NDArray[np.uint8] = np.stack(channels, -1).round().astype(np.uint8)
    return yuv


def halved(chroma: npt.NDArray[np.uint8], rows: int) -> npt.NDArray[np.uint8]:
    height, width, channels = chroma.shape
    blocks = chroma.reshape(height // rows, rows, width // 2, 2, channels)
    means: npt.NDArray[np.uint8] = blocks.mean((1, 3)).round().astype(np.uint8)
    return means


def rows_of(rgb: Rgb, encoding: str) -> list[npt.NDArray[np.uint8]]:
    """The planes of ``rgb`` in an encoding as (rows, bytes) arrays, made without the code under test."""
    yuv = yuv601(rgb)
    luma, grey = yuv[..., 0], rgb[..., 1]
    if encoding.startswith("bayer") and encoding.endswith("8"):
        mosaic = np.empty(rgb.shape[:2], np.uint8)
        for index, letter in enumerate(encoding[6:10]):
            cell = np.s_[index // 2 :: 2, index % 2 :: 2]
            mosaic[cell] = rgb[..., "rgb".index(letter)][cell]
        return [mosaic]
    if encoding in ("uyvy", "yuv422", "yuyv", "yuv422_yuy2"):
        packed = np.empty((*luma.shape, 2), np.uint8)
        first = int(encoding in ("uyvy", "yuv422"))
        chroma = halved(yuv[..., 1:], 1)
        packed[..., first] = luma
        packed[:, 0::2, 1 - first], packed[:, 1::2, 1 - first] = chroma[..., 0], chroma[..., 1]
        return [packed.reshape(len(luma), -1)]
    if encoding in ("nv12", "nv21"):
        chroma = halved(yuv[..., 1:], 2)
        return [luma, (chroma if encoding == "nv12" else chroma[..., ::-1]).reshape(len(luma) // 2, -1)]
    if encoding.endswith("16") or encoding.startswith("16U"):
        # The high byte is the 8-bit sample; little endian has the low byte first.
        (plane,) = rows_of(rgb, EIGHT.get(encoding, encoding.replace("16", "8")))
        return [np.dstack([np.full_like(plane, 77), plane]).reshape(plane.shape[0], -1)]
    alpha = np.full_like(grey, 77)
    packings: dict[str, Callable[[], list[npt.NDArray[np.uint8]]]] = {
        "rgb8": lambda: [rgb],
        "bgr8": lambda: [rgb[..., ::-1]],
        "8UC3": lambda: [rgb[..., ::-1]],
        "rgba8": lambda: [np.dstack([rgb, alpha])],
        "bgra8": lambda: [np.dstack([rgb[..., ::-1], alpha])],
        "mono8": lambda: [grey],
        "8UC1": lambda: [grey],
        "nv24": lambda: [luma, yuv[..., 1:]],
    }
    return [plane.reshape(plane.shape[0], -1) for plane in packings[EIGHT.get(encoding, encoding)]()]


def frame_of(rgb: Rgb, encoding: str, padding: int = 0) -> Frame:
    planes = rows_of(rgb, encoding)
    data = bytearray()
    for plane in planes:
        # nv24's chroma rows are twice as long, and so is their padding.
        pad = padding * plane.shape[1] // planes[0].shape[1]
        data += np.pad(plane, ((0, 0), (0, pad)), constant_values=123).tobytes()
    # The samples have all 16 bits: in these colours nobody could guess it.
    levels = Levels(16)
    return levels(
        decode_image(encoding, rgb.shape[1], rgb.shape[0], planes[0].shape[1] + padding, False, data)
    )


def expected(rgb: Rgb, encoding: str) -> Rgb:
    return np.repeat(rgb[..., 1:2], 3, -1) if encoding in MONO else rgb


@pytest.mark.parametrize("padding", [0, 14])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_smooth_image_comes_back(encoding: str, padding: int) -> None:
    rgb = smooth_rgb()
    result = to_rgb(frame_of(rgb, encoding, padding))
    assert result.shape == (H, W, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    exact = encoding in (*MONO, "rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "8UC4")
    exact |= "16" in encoding and "bayer" not in encoding
    inner = np.s_[2:-2, 2:-2]  # the demosaicing has no neighbours beyond the border
    assert np.abs(result.astype(int) - expected(rgb, encoding))[inner].max() <= (0 if exact else 5)


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in MONO])
def test_pure_colours_stay_what_they_are(encoding: str, name: str) -> None:
    rgb = plain(COLOURS[name])
    assert np.abs(to_rgb(frame_of(rgb, encoding)).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "bayer" in name])
def test_a_mosaic_may_have_odd_sides(encoding: str) -> None:
    rgb = np.full((33, 35, 3), COLOURS["orange"], np.uint8)
    assert np.abs(to_rgb(frame_of(rgb, encoding)).astype(int) - rgb).max() <= 1


def test_nv24_agrees_with_opencv_on_nv12() -> None:
    rng = np.random.default_rng(0)
    luma, chroma = rng.integers(0, 256, (H, W), np.uint8), rng.integers(0, 256, (H // 2, W // 2, 2), np.uint8)
    doubled = chroma.repeat(2, 0).repeat(2, 1)
    half = decode_image("nv12", W, H, W, False, luma.tobytes() + chroma.tobytes())
    full = decode_image("nv24", W, H, W, False, luma.tobytes() + doubled.tobytes())
    assert np.abs(to_rgb(half).astype(int) - to_rgb(full)).max() <= 1


@pytest.mark.parametrize("big", [True, False])
def test_mono16_of_16_bits_is_its_high_byte(big: bool) -> None:
    values = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 21
    data = values.astype(">u2" if big else "<u2").tobytes()
    result = to_rgb(decode_image("mono16", W, H, 2 * W, big, data))
    assert np.array_equal(result, np.repeat((values // 256)[..., None], 3, -1))


@pytest.mark.parametrize("size", [None, (W, H), (32, 24), (40, 44), (96, 80), (96, 40)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_resizing_and_out_buffer(encoding: str, size: tuple[int, int] | None) -> None:
    rgb = smooth_rgb()
    width, height = size or (W, H)
    frame = frame_of(rgb, encoding, padding=6)
    result = to_rgb(frame, size)
    assert result.shape == (height, width, 3)
    assert result.flags.c_contiguous
    reference = cv2.resize(expected(rgb, encoding), (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(result.astype(int) - reference).mean() < 3
    buffers = np.zeros((2, height, width, 3), np.uint8)
    assert to_rgb(frame, size, buffers[1]).base is buffers
    assert np.array_equal(buffers[1], result)
    assert not buffers[0].any()


def test_a_side_halved_is_averaged() -> None:
    stripes = np.zeros((H, W, 3), np.uint8)
    stripes[:, ::4] = 200  # bilinear sampling at a quarter of the width would miss them all
    for encoding in ("rgb8", "bgra8", "mono8", "nv24"):
        for size in ((W // 4, H // 4), (W // 4, H)):
            assert np.abs(to_rgb(frame_of(stripes, encoding), size).astype(int) - 50).max() <= 1


def test_rgb8_without_padding_is_the_message_itself() -> None:
    frame = frame_of(smooth_rgb(), "rgb8")
    assert np.shares_memory(to_rgb(frame), frame.planes[0])
    assert not np.shares_memory(to_rgb(frame_of(smooth_rgb(), "rgb8", padding=3)), frame.planes[0])


def test_the_message_is_never_written_to() -> None:
    for encoding in ENCODINGS:
        frame = frame_of(smooth_rgb(), encoding)
        before = [plane.copy() for plane in frame.planes]
        to_rgb(frame)
        to_rgb(frame, (32, 32))
        assert all(np.array_equal(a, b) for a, b in zip(before, frame.planes, strict=True))


def test_a_read_only_message_is_enough() -> None:
    data = smooth_rgb().tobytes()
    for encoding, step in (("bgr8", 3 * W), ("uyvy", 2 * W), ("nv12", W), ("nv24", W), ("bayer_rggb8", W)):
        assert to_rgb(decode_image(encoding, W, H, step, False, data), (40, 32)).shape == (32, 40, 3)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((H, W), np.uint8),
        np.zeros((W, H, 3), np.uint8),
        np.zeros((H, W, 3), np.float32),
        np.zeros((H, 2 * W, 3), np.uint8)[:, ::2],
        np.frombuffer(bytes(H * W * 3), np.uint8).reshape(H, W, 3),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(out: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"must be writeable, contiguous uint8 of shape \(48, 64, 3\)\.$"):
        to_rgb(frame_of(smooth_rgb(), "bgr8"), out=out)


def test_labels_are_resized_by_the_pixel_under_each_centre() -> None:
    labels = np.random.default_rng(5).choice(np.array([0, 7, 19, 255], np.uint8), (24, 40))
    for width, height in ((80, 48), (64, 40), (24, 16), (48, 32)):
        rows = ((np.arange(height) + 0.5) * 24 / height).astype(int)
        columns = ((np.arange(width) + 0.5) * 40 / width).astype(int)
        result = resize_labels(labels, (width, height))
        assert np.array_equal(result, labels[np.ix_(rows, columns)])
        out = np.zeros((height, width), np.uint8)
        assert resize_labels(labels, (width, height), out) is out
        assert np.array_equal(out, result)


def test_confidence_is_resized_bilinearly() -> None:
    ramp = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None], 24, 0)
    result = resize_confidence(ramp, (90, 72))
    centres = np.clip((np.arange(90) + 0.5) / 3 - 0.5, 0, 29) * 8
    assert np.abs(result - centres).max() <= 1
    out = np.zeros((72, 90), np.uint8)
    assert resize_confidence(ramp, (90, 72), out) is out
    assert np.array_equal(out, result)


@pytest.mark.parametrize("resize", [resize_labels, resize_confidence])
def test_results_of_the_right_size_are_not_copied(resize: Callable[..., Rgb]) -> None:
    image = np.arange(32 * 40, dtype=np.uint8).reshape(32, 40)
    assert np.shares_memory(resize(image, (40, 32)), image)
    out = np.zeros_like(image)
    assert np.array_equal(resize(image, (40, 32), out), image)
    assert np.array_equal(out, image)
    with pytest.raises(ValueError, match=r"shape \(32, 40\)\.$"):
        resize(image, (40, 32), np.zeros((40, 32), np.uint8))
