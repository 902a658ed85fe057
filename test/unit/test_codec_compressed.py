"""JPEG, PNG and WebP: what comes out, wherever they are cut or damaged."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from support.images import REASONS, random_bytes, refused, smooth_rgb

from rt_segmentation.imaging.codec import (
    decode_compressed,
    encode_jpeg,
    encode_png,
)
from rt_segmentation.imaging.errors import ImageError


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
