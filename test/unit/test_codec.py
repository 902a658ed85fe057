"""Messages built byte by byte against the frames that come out, and everything that must be refused."""

from __future__ import annotations

import array
import pickle
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from rt_segmentation.imaging.codec import (
    ENCODINGS,
    MAX_SIDE_PX,
    Buffer,
    decode_compressed,
    decode_image,
    encode_jpeg,
    encode_png,
)
from rt_segmentation.imaging.errors import ImageError

W, H = 48, 34
REASONS = {"truncated", "bad_step", "bad_size", "unknown_encoding", "undecodable"}
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


def random_bytes(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).tobytes()


def total_bytes(encoding: str, step: int, height: int = H) -> int:
    """All rows with their padding."""
    rows = {"nv12": height * 3 // 2, "nv21": height * 3 // 2, "nv24": height * 3}.get(encoding, height)
    return rows * step


@contextmanager
def refused(reason: str, *words: str) -> Iterator[None]:
    """Expects an ImageError of this reason, whose one sentence holds these words."""
    with pytest.raises(ImageError) as caught:
        yield
    sentence = str(caught.value)
    assert caught.value.reason == reason
    assert sentence.endswith(".") and ". " not in sentence
    assert [each for each in words if each not in sentence] == [], sentence


def smooth_rgb(width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([230 * x, 200 * y + 20, 250 - 200 * x * y], -1).astype(np.uint8)


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


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "rgb8; jpeg compressed bgr8", "", "jpg"])
def test_the_signature_decides_whatever_the_format_says(format: str) -> None:
    rgb = smooth_rgb()
    webp = cv2.imencode(".webp", rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 95])[1]
    for data in (encode_jpeg(rgb, 95), encode_png(rgb), webp):
        frame = decode_compressed(format, data, stamp_ns=7, frame_id="left")
        assert (frame.pixel_format, frame.width, frame.height, frame.stamp_ns, frame.frame_id) == (
            "bgr8",
            64,
            48,
            7,
            "left",
        )
        assert np.abs(frame.planes[0][..., ::-1].astype(int) - rgb).mean() < 2


def test_png_is_lossless_for_labels_and_rgb() -> None:
    labels = np.random.default_rng(3).integers(0, 256, (48, 64), np.uint8)
    frame = decode_compressed("mono8; png compressed ", encode_png(labels))
    assert frame.pixel_format == "mono8"
    assert np.array_equal(frame.planes[0], labels)
    assert np.array_equal(
        decode_compressed("png", encode_png(smooth_rgb())).planes[0][..., ::-1], smooth_rgb()
    )


def test_jpeg_quality_is_used() -> None:
    rgb = smooth_rgb(320, 240)
    assert len(encode_jpeg(rgb, 40)) < len(encode_jpeg(rgb)) < len(encode_jpeg(rgb, 100))


@pytest.mark.parametrize("encoding", ["32FC1", "64FC1"])
def test_depth_images_are_named_as_what_they_are(encoding: str) -> None:
    with refused("unknown_encoding", repr(encoding), "depth image", "the camera's own image"):
        decode_image(encoding, W, H, W * 8, False, bytes(W * H * 8))


def test_16_bit_and_alpha_and_palette() -> None:
    deep = np.random.default_rng(4).integers(0, 65536, (48, 64)).astype(np.uint16)
    data = cv2.imencode(".png", deep)[1]
    for format, pixel_format in (
        ("mono16; png compressed ", "mono16"),
        ("16UC1; png compressed ", "mono16"),
        ("bayer_grbg16; png compressed ", "bayer_grbg16"),
        ("png", "mono16"),
    ):
        frame = decode_compressed(format, data)
        assert frame.pixel_format == pixel_format
        assert np.array_equal(frame.planes[0], deep)
    colours = np.dstack([deep, deep // 2, deep // 3])
    frame = decode_compressed("bgr16; png compressed ", cv2.imencode(".png", colours)[1])
    assert frame.pixel_format == "bgr16" and np.array_equal(frame.planes[0], colours)
    bgra = np.dstack([smooth_rgb()[..., ::-1], np.full((48, 64), 9, np.uint8)])
    frame = decode_compressed("rgba8; png compressed bgra8", cv2.imencode(".png", bgra)[1])
    assert np.array_equal(frame.planes[0], bgra[..., :3])


def test_a_grey_jpeg_and_a_compressed_mosaic() -> None:
    grey = smooth_rgb()[..., 0]
    data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    assert decode_compressed("jpeg", data).pixel_format == "mono8"
    assert np.abs(decode_compressed("jpeg", data).planes[0].astype(int) - grey).mean() < 2
    assert decode_compressed("bayer_gbrg8; jpeg compressed ", data).pixel_format == "bayer_gbrg8"
    assert decode_compressed("bayer_nonsense8; jpeg compressed ", data).pixel_format == "mono8"


def test_exif_does_not_turn_the_pixels() -> None:
    plain = encode_jpeg(smooth_rgb(64, 48))
    tiff = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    exif = b"Exif\0\0" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    obeyed = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    assert obeyed is not None and obeyed.shape == (64, 48, 3)
    assert np.array_equal(
        decode_compressed("jpeg", turned).planes[0], decode_compressed("jpeg", plain).planes[0]
    )


def test_depth_and_foreign_files_are_refused_by_name() -> None:
    for format in ("16UC1; compressedDepth png", "32FC1; compressedDepth"):
        with refused("unknown_encoding", format, "must be a JPEG, PNG or WebP"):
            decode_compressed(format, encode_png(smooth_rgb()))
    with refused("unknown_encoding", "h264", "00 00 00 01", "JPEG, PNG or WebP"):
        decode_compressed("h264", b"\0\0\0\1" + bytes(100))
    for data in (b"", bytes(100)):
        with refused("undecodable", "JPEG, PNG or WebP"):
            decode_compressed("jpeg", data)


def with_thumbnail(jpeg: bytes) -> bytes:
    """A JPEG with a whole JPEG, end marker and all, in its APP1 segment."""
    small = encode_jpeg(smooth_rgb(32, 32))
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + jpeg[2:]


def compressed_files() -> dict[str, bytes]:
    bgr = smooth_rgb()[..., ::-1]
    jpeg = encode_jpeg(smooth_rgb())
    progressive = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    restarts = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
    return {
        "jpeg": jpeg,
        "jpeg progressive": progressive,
        "jpeg restarts": restarts,
        "jpeg thumbnail": with_thumbnail(jpeg),
        "png": encode_png(smooth_rgb()),
        "webp": cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes(),
        "webp lossless": cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(),
    }


@pytest.mark.parametrize("name", compressed_files())
def test_a_truncated_file_is_undecodable_wherever_it_is_cut(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compressed_files()[name]
    assert decode_compressed(name, whole).width == 64
    imdecode = cv2.imdecode
    # A JPEG whose last scan is cut says so only when it is decoded; without its end marker alone it is whole.
    scan = whole.rfind(b"\xff\xda") if name.startswith("jpeg") else len(whole)
    end = len(whole) - 2 * name.startswith("jpeg")
    for cut in {*range(0, end, 7), *range(40), *range(end - 20, end)}:
        monkeypatch.setattr(cv2, "imdecode", imdecode if cut > scan else lambda *_: pytest.fail("decoded"))
        with refused("undecodable"):
            decode_compressed(name, whole[:cut])


@pytest.mark.parametrize("name", [name for name in compressed_files() if name.startswith("jpeg")])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(name: str) -> None:
    whole = compressed_files()[name]
    assert whole.endswith(b"\xff\xd9")
    expected = decode_compressed("jpeg", whole).planes[0]
    for data in (whole[:-1], whole[:-2], whole[:-2] + b"\xff" * 3):
        assert np.array_equal(decode_compressed("jpeg", data).planes[0], expected)


def test_a_jpeg_that_ends_before_a_restart_is_truncated_without_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = compressed_files()["jpeg restarts"]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    last = max(whole.rfind(bytes((0xFF, marker))) for marker in range(0xD0, 0xD8))
    with refused("undecodable", "not all of its rows"):
        decode_compressed("jpeg", whole[:last])


def test_a_progressive_jpeg_without_its_last_scan_is_truncated() -> None:
    whole = compressed_files()["jpeg progressive"]
    with refused("undecodable", "not all of its rows"):
        decode_compressed("jpeg", whole[: whole.rfind(b"\xff\xda")])


@pytest.mark.parametrize("name", compressed_files())
@pytest.mark.parametrize("padding", [b"\0" * 512, b"\xff" * 9, random_bytes(300)])
def test_padding_after_the_end_is_allowed(name: str, padding: bytes) -> None:
    whole = compressed_files()[name]
    assert np.array_equal(
        decode_compressed(name, whole + padding).planes[0], decode_compressed(name, whole).planes[0]
    )


def png_of(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (8192, 64), (0, 64), (16, 16)])
def test_the_declared_size_is_checked_before_decoding(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg = bytearray(encode_jpeg(smooth_rgb()))
    sof = jpeg.index(b"\xff\xc0")
    jpeg[sof + 5 : sof + 9] = struct.pack(">HH", height, width)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for kind, data in (("JPEG", bytes(jpeg)), ("PNG", png_of(width, height))):
        with refused("bad_size", kind, f"{width}x{height}", "32 to 7680 px"):
            decode_compressed("", data)


def test_webp_sizes_are_read_in_all_three_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    big = np.zeros((40, 8000, 3), np.uint8)
    lossy = cv2.imencode(".webp", big, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()
    lossless = cv2.imencode(".webp", big, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + (7999).to_bytes(3, "little") + (39).to_bytes(3, "little")
    extended = b"RIFF" + struct.pack("<I", len(canvas) + 4) + b"WEBP" + canvas
    assert (lossy[12:16], lossless[12:16]) == (b"VP8 ", b"VP8L")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for data in (lossy, lossless, extended):
        with refused("bad_size", "WebP is 8000x40"):
            decode_compressed("webp", data)


def test_a_file_broken_inside_is_undecodable() -> None:
    png = bytearray(encode_png(smooth_rgb()))
    png[len(png) // 2] ^= 1
    with refused("undecodable", "checksum"):
        decode_compressed("png", png)
    with refused("undecodable", "broken inside", "valid PNG"):
        decode_compressed("png", png_of(64, 48, b"too few pixels"))


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


def test_random_files_give_a_frame_or_an_image_error() -> None:
    rng = np.random.default_rng(2026)
    whole = list(compressed_files().values())
    outcomes = set()
    for index in range(600):
        data = bytearray(whole[index % len(whole)])
        if index % 3 == 0:
            data[12:] = rng.integers(0, 256, int(rng.integers(0, 400)), np.uint8).tobytes()
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        try:
            frame = decode_compressed(str(rng.choice(["jpeg", "png", "webp", "tiff"])), data)
            assert frame.planes[0].shape[:2] == (frame.height, frame.width)
            outcomes.add("frame")
        except ImageError as error:
            outcomes.add(error.reason)
    assert "undecodable" in outcomes
    assert outcomes <= {"frame", *REASONS}


def test_an_encoding_of_any_length_gives_a_sentence() -> None:
    long = "x" * 100_000
    with pytest.raises(ImageError, match=r"^The image encoding") as raw:
        decode_image(long, 64, 48, 192, False, bytes(192 * 48))
    with pytest.raises(ImageError, match=r"^The compressed image of format") as compressed:
        decode_compressed(long, b"nothing")
    assert max(len(str(caught.value)) for caught in (raw, compressed)) < 1100
