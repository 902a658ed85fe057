"""Messages built byte by byte against the frames that come out, and everything that must be refused."""

from __future__ import annotations

import array
import pickle

import numpy as np
import pytest
from support.images import REASONS, random_bytes, refused

from rt_segmentation.imaging.codec import (
    ENCODINGS,
    MAX_SIDE_PX,
    Buffer,
    decode_compressed,
    decode_image,
)
from rt_segmentation.imaging.errors import ImageError

W, H = 48, 34
ROW_BYTES = {
    "rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "mono16": 2,
    "uyvy": 2, "yuv422": 2, "yuyv": 2, "yuv422_yuy2": 2, "nv12": 1, "nv21": 1, "nv24": 1,
    "bayer_rggb8": 1, "bayer_bggr8": 1, "bayer_gbrg8": 1, "bayer_grbg8": 1,
    "bayer_rggb16": 2, "bayer_bggr16": 2, "bayer_gbrg16": 2, "bayer_grbg16": 2,
    "8UC4": 4, "16UC1": 2, "16UC3": 6, "16UC4": 8, "rgb16": 6, "bgr16": 6, "rgba16": 8, "bgra16": 8,
}  # fmt: skip
CANONICAL = {
    "8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "16UC3": "bgr16", "16UC4": "bgra16",
    "yuv422": "uyvy", "yuv422_yuy2": "yuyv",
}  # fmt: skip


def total_bytes(encoding: str, step: int, height: int = H) -> int:
    """All rows with their padding."""
    rows = {"nv12": height * 3 // 2, "nv21": height * 3 // 2, "nv24": height * 3}.get(encoding, height)
    return rows * step


def test_every_encoding_is_listed() -> None:
    assert set(ENCODINGS) == set(ROW_BYTES)


@pytest.mark.parametrize("encoding", ROW_BYTES)
@pytest.mark.parametrize("padding", [0, 1, 29])
def test_planes_hold_the_rows_of_the_message(encoding: str, padding: int) -> None:
    row = W * ROW_BYTES[encoding]
    step = row + padding
    data = random_bytes(total_bytes(encoding, step))
    frame = decode_image(
        encoding, W, H, step, False, data, stamp_ns=12_345_678_901, frame_id="camera_optical"
    )
    assert (frame.width, frame.height, frame.stamp_ns) == (W, H, 12_345_678_901)
    assert frame.frame_id == "camera_optical"
    assert frame.pixel_format == CANONICAL.get(encoding, encoding)
    luma_rows = [data[y * step : y * step + row] for y in range(H)]
    assert [frame.planes[0][y].tobytes() for y in range(H)] == luma_rows
    if frame.pixel_format in ("nv12", "nv21"):
        base = H * step
        assert frame.planes[1].shape == (H // 2, W // 2, 2)
        for y in range(H // 2):
            assert frame.planes[1][y].tobytes() == data[base + y * step : base + y * step + W]
    elif frame.pixel_format == "nv24":
        base = H * step
        assert frame.planes[1].shape == (H, W, 2)
        for y in range(H):
            assert frame.planes[1][y].tobytes() == data[base + y * 2 * step : base + y * 2 * step + 2 * W]
    else:
        assert len(frame.planes) == 1


@pytest.mark.parametrize("encoding", ROW_BYTES)
def test_no_byte_is_copied_and_the_last_padding_may_be_missing(encoding: str) -> None:
    step = W * ROW_BYTES[encoding] + 10
    last_padding = 20 if encoding == "nv24" else 10
    data = np.frombuffer(bytearray(random_bytes(total_bytes(encoding, step) - last_padding)), np.uint8)
    frame = decode_image(encoding, W, H, step, False, data)
    assert all(np.shares_memory(plane, data) for plane in frame.planes)
    with refused("truncated", f"at least {data.size}", f"{data.size - 1} bytes"):
        decode_image(encoding, W, H, step, False, data[:-1])


@pytest.mark.parametrize(
    "kind",
    [bytes, bytearray, memoryview, lambda b: array.array("B", b), lambda b: np.frombuffer(b, np.uint8)],
)
def test_any_buffer_is_taken_as_a_view(kind: type) -> None:
    data: Buffer = kind(random_bytes(W * H * 3))
    frame = decode_image("rgb8", W, H, W * 3, False, data)
    assert np.shares_memory(frame.planes[0], np.frombuffer(data, np.uint8))
    assert frame.planes[0].tobytes() == random_bytes(W * H * 3)


@pytest.mark.parametrize("padding", [0, 1, 6])
def test_mono16_in_both_byte_orders(padding: int) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (H, W)).astype(np.uint16)
    for big, order in ((True, ">u2"), (False, "<u2")):
        rows = [row.astype(order).tobytes() + b"\xaa" * padding for row in values]
        frame = decode_image("mono16", W, H, 2 * W + padding, big, b"".join(rows))
        assert np.array_equal(frame.planes[0], values)


@pytest.mark.parametrize(
    ("width", "height"),
    [(0, 0), (1, 1), (31, 64), (64, 31), (8192, 8192), (7681, 64), (64, 7681), (-64, 64), (2**32 - 1, 64)],
)
def test_sizes_out_of_range_are_refused_before_the_data(width: int, height: int) -> None:
    for encoding in (*ROW_BYTES, "no_such_encoding"):
        with refused("bad_size", f"{width}x{height}", "32 to 7680 px"):
            decode_image(encoding, width, height, width * 4, False, b"")


def test_the_sizes_at_the_limits_are_taken() -> None:
    assert decode_image("mono8", 32, 32, 32, False, bytes(32 * 32)).planes[0].shape == (32, 32)
    assert decode_image("mono8", MAX_SIDE_PX, 32, MAX_SIDE_PX, False, bytes(MAX_SIDE_PX * 32)).width == 7680


@pytest.mark.parametrize(
    ("encoding", "width", "height", "side"),
    [
        ("uyvy", 33, 32, "width"),
        ("yuv422_yuy2", 33, 32, "width"),
        ("nv12", 33, 32, "width"),
        ("nv21", 32, 33, "height"),
    ],
)
def test_odd_sides_are_refused_where_chroma_is_shared(
    encoding: str, width: int, height: int, side: str
) -> None:
    with refused("bad_size", encoding, f"{side} must be even"):
        decode_image(encoding, width, height, 2 * width, False, bytes(10_000))


@pytest.mark.parametrize(
    ("encoding", "width", "height"), [("uyvy", 32, 33), ("nv24", 33, 33), ("bayer_rggb8", 33, 33)]
)
def test_odd_sides_are_taken_where_they_mean_something(encoding: str, width: int, height: int) -> None:
    assert decode_image(encoding, width, height, 2 * width, False, bytes(10_000)).planes[0].shape[:2] == (
        height,
        width,
    )


@pytest.mark.parametrize("encoding", ROW_BYTES)
def test_a_step_below_a_row_is_refused(encoding: str) -> None:
    row = W * ROW_BYTES[encoding]
    for step in (0, -row, row - 1):
        with refused("bad_step", encoding, f"{step} bytes", f"at least {row}"):
            decode_image(encoding, W, H, step, False, bytes(W * H * 8))


def test_a_huge_step_is_truncated() -> None:
    with refused("truncated", "at least"):
        decode_image("rgb8", W, H, 2**32 - 1, False, bytes(W * H * 3))


@pytest.mark.parametrize("encoding", ["", "RGB8", "rgb32", "16SC1", "32FC3", "jpeg"])
def test_unknown_encodings_name_the_known(encoding: str) -> None:
    with refused("unknown_encoding", repr(encoding), "rgb8", "nv24", "yuv422_yuy2"):
        decode_image(encoding, W, H, W * 8, False, bytes(W * H * 8))


def test_the_error_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(ImageError("bad_step", "A sentence.")))
    assert (error.reason, str(error)) == ("bad_step", "A sentence.")


@pytest.mark.parametrize("encoding", ["32FC1", "64FC1"])
def test_depth_images_are_named_as_what_they_are(encoding: str) -> None:
    with refused("unknown_encoding", repr(encoding), "depth image", "the camera's own image"):
        decode_image(encoding, W, H, W * 8, False, bytes(W * H * 8))


def test_random_messages_give_a_frame_or_an_image_error() -> None:
    rng = np.random.default_rng(2026)
    outcomes = set()
    for _ in range(400):
        encoding = str(rng.choice([*ENCODINGS, "", "16UC1"]))
        width, height = (int(side) for side in rng.choice([0, 1, 31, 32, 33, 64, 7680, 8192], 2))
        step = int(rng.choice([0, 1, width, 2 * width, 3 * width + 1, 4 * width, 2**31]))
        try:
            decode_image(
                encoding, width, height, step, bool(rng.integers(2)), bytes(int(rng.integers(0, 40_000)))
            )
            outcomes.add("frame")
        except ImageError as error:
            outcomes.add(error.reason)
    assert outcomes == {"frame", *REASONS} - {"undecodable"}


def test_an_encoding_of_any_length_gives_a_sentence() -> None:
    long = "x" * 100_000
    with pytest.raises(ImageError, match=r"^The image encoding") as raw:
        decode_image(long, 64, 48, 192, False, bytes(192 * 48))
    with pytest.raises(ImageError, match=r"^The compressed image of format") as compressed:
        decode_compressed(long, b"nothing")
    assert max(len(str(caught.value)) for caught in (raw, compressed)) < 1100
