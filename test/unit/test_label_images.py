"""Label images of others: ids are ids at any depth, in any container that changes none of them."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dataset_layouts import grey_png, palette_png

pytest.importorskip("rosbags", reason="rosbags is not installed: no messages to read")

from support.street_bags import BEGIN_NS, TYPES, image, settings, street, write_bag

from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE, to_labels
from rt_segmentation.bags.reading import Message
from rt_segmentation.data.dataset import DatasetError, read_labels
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.bag.truth import TopicTruth
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.models import ModelManifest

IDS = np.random.default_rng(0).integers(0, 2, (48, 65), np.uint8)
MANY = np.random.default_rng(0).choice(np.array([0, 1, 2, 3, 9, 15], np.uint8), (48, 65))
FULL = np.random.default_rng(0).choice(np.array([0, 1, 11, 254, 255], np.uint8), (48, 65))


def encoded(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def grey_alpha_png(ids: np.ndarray) -> bytes:
    """A PNG of 16-bit grey with 16-bit alpha, which OpenCV does not write."""
    samples = np.dstack([ids, np.full_like(ids, 9)]).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    height, width = ids.shape
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def three(ids: np.ndarray) -> np.ndarray:
    return np.repeat(ids[..., None], 3, -1)


COLOURS = np.random.default_rng(0).integers(0, 256, (256, 3))
GREYS = np.repeat(np.arange(256)[:, None], 3, 1)

FILES = {
    "1 bit": (IDS, grey_png(IDS, 1)),
    "2 bit": (MANY & 3, grey_png(MANY & 3, 2)),
    "4 bit": (MANY, grey_png(MANY, 4)),
    "8 bit": (FULL, encoded(".png", FULL)),
    "16 bit": (FULL, encoded(".png", FULL.astype(np.uint16))),
    "R = G = B": (FULL, encoded(".png", three(FULL))),
    "with alpha": (FULL, encoded(".png", np.dstack([three(FULL), np.full_like(FULL, 9)]))),
    "16 bit, R = G = B": (FULL, encoded(".png", three(FULL).astype(np.uint16))),
    "16 bit with alpha": (FULL, grey_alpha_png(FULL)),
    "palette of 1 bit": (IDS, palette_png(IDS, 1, COLOURS[:2])),
    "palette of 8 bits": (FULL, palette_png(FULL, 8, COLOURS)),
    "palette of the ids": (FULL, palette_png(FULL, 8, GREYS)),
    "lossless WebP": (FULL, encoded(".webp", three(FULL), cv2.IMWRITE_WEBP_QUALITY, 101)),
}
RAW = {
    name: (FULL, name, FULL.astype(dtype))
    for name, dtype in (
        ("mono8", "u1"), ("8UC1", "u1"), ("mono16", "<u2"), ("16UC1", "<u2"), ("16SC1", "<i2"),
        ("32SC1", "<i4"),
    )
} | {name: (FULL, name, three(FULL)) for name in ("rgb8", "8UC3")}  # fmt: skip


def compressed(data: bytes, format: str = "mono8; png compressed ") -> Message:
    header = image(IDS, BEGIN_NS).header
    content = TYPES.types[COMPRESSED_IMAGE](header=header, format=format, data=np.frombuffer(data, np.uint8))
    return Message("truth", COMPRESSED_IMAGE, BEGIN_NS, content)


def raw(pixels: np.ndarray, encoding: str, **fields: Any) -> Message:
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return Message("truth", IMAGE, BEGIN_NS, image(pixels, BEGIN_NS, encoding=encoding, data=data, **fields))


@pytest.mark.parametrize("name", FILES)
def test_ids_of_a_compressed_topic_are_those_that_were_stored(name: str) -> None:
    expected, data = FILES[name]
    truth = TopicTruth(1)
    truth.offer(compressed(data))
    read = truth.find(BEGIN_NS, ())
    assert read is not None
    found = read()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", FILES)
def test_ids_of_a_file_are_those_that_were_stored(name: str, tmp_path: Path) -> None:
    expected, data = FILES[name]
    (tmp_path / "0.png").write_bytes(data)
    np.testing.assert_array_equal(read_labels(tmp_path / "0.png"), expected)


@pytest.mark.parametrize("name", RAW)
def test_ids_of_a_raw_topic_are_read_at_any_depth(name: str) -> None:
    expected, encoding, pixels = RAW[name]
    np.testing.assert_array_equal(to_labels(raw(pixels, encoding)), expected)
    if pixels.itemsize > 1:
        swapped = pixels.astype(pixels.dtype.newbyteorder(">"))
        np.testing.assert_array_equal(to_labels(raw(swapped, encoding, is_bigendian=1)), expected)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (encoded(".jpg", FULL), "is a JPEG, which changes ids"),
        (encoded(".webp", three(FULL), cv2.IMWRITE_WEBP_QUALITY, 90), "is a lossy WebP, which changes ids"),
        (encoded(".png", street(0)[0].astype(np.uint16)), "are 16-bit colours; label images hold"),
        (palette_png(IDS, 1, GREYS[::255]), "a palette of greys that differ from their numbers"),
        (encoded(".png", street(0)[0]), "are colours; label images hold a class id a pixel"),
        (
            encoded(".png", np.full((40, 40), 700, np.uint16)),
            "numbers from 700 to 700; class ids are 0 to 254",
        ),
        (encoded(".png", FULL)[:-20], "PNG is truncated"),
        (b"", "starts with nothing"),
    ],
)
def test_what_changes_ids_is_refused(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=sentence):
        to_labels(compressed(data))
    (tmp_path / "0.png").write_bytes(data)
    with pytest.raises(DatasetError, match=f"0.png is not an image that can be used: .*{sentence}"):
        read_labels(tmp_path / "0.png")


def test_the_declared_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(".png", np.zeros((40, 8000), np.uint8))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="PNG is 8000x40 px; each side must be 1 to 7680 px"):
        to_labels(compressed(data))


@pytest.mark.parametrize(
    ("pixels", "encoding", "sentence"),
    [
        (np.full((40, 40), -1, "<i4"), "32SC1", "numbers from -1 to -1"),
        (np.full((40, 40), 256, "<u2"), "16UC1", "numbers from 256 to 256"),
        (np.zeros((40, 40), "<f4"), "32FC1", "'32FC1'; label images hold a class id a pixel in one of mono8"),
        (street(0)[0], "rgb8", "are colours"),
    ],
)
def test_raw_images_that_are_no_labels_are_refused(pixels: np.ndarray, encoding: str, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        to_labels(raw(pixels, encoding))


def evaluated(path: Path, model: ModelManifest, change: Callable[..., Any]) -> dict[str, Any]:
    """The result of a bag of three streets, whose messages `change` makes of pixels, labels and stamp."""
    messages = []
    for i in range(3):
        stamp = BEGIN_NS + i * 10**8
        pair = change(*street(i), stamp)
        messages += [(topic, stamp, content) for topic, content in zip(("camera", "truth"), pair)]
    bag = write_bag(path, messages)
    chosen = settings(model, path.with_name(f"{path.name}_out"))
    return evaluate_bags([bag], chosen, "", threading.Event(), lambda *_: None).to_plain()


def deep(pixels: np.ndarray, stamp: int, encoding: str) -> Any:
    stored = pixels.astype("<u2")
    return image(stored, stamp, encoding=encoding, data=stored.reshape(-1).view(np.uint8))


def test_a_bag_of_16_bits_scores_as_one_of_8(small_model: ModelManifest, tmp_path: Path) -> None:
    def grey(rgb: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)

    eight = evaluated(
        tmp_path / "eight",
        small_model,
        lambda rgb, labels, stamp: (image(grey(rgb), stamp), image(labels, stamp)),
    )
    sixteen = evaluated(
        tmp_path / "sixteen",
        small_model,
        lambda rgb, labels, stamp: (
            deep(grey(rgb).astype(np.uint16) << 4, stamp, "mono16"),
            deep(labels, stamp, "16UC1"),
        ),
    )
    scores = [result["models"][0]["accuracy"] for result in (eight, sixteen)]
    assert scores[0]["frames"] == 3 and scores[0] == scores[1]
    assert eight["problems"] == []
    (guess,) = sixteen["problems"]
    assert "taken for 12 bits; set image_bits" in guess
