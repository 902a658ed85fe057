"""Tiny data sets in the layouts that they are published in, and PNG files that OpenCV does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write(path: Path, pixels: np.ndarray) -> None:
    """Write an image; colours are (R, G, B)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def image(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def blocks(seed: int, values: Sequence[int], width: int = 64, height: int = 48, side: int = 8) -> np.ndarray:
    """Labels in squares, each a random one of `values`."""
    rng = np.random.default_rng(seed)
    small = rng.choice(np.array(values, np.uint8), (-(-height // side), -(-width // side)))
    return small.repeat(side, 0).repeat(side, 1)[:height, :width]


def instances_of(labels: np.ndarray, seed: int, side: int = 16) -> np.ndarray:
    """Instance ids as Cityscapes has them: 24 to 33 in numbered squares, some as groups without number."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(n) // side for n in labels.shape)
    numbers = (rows[:, None] * int(columns[-1] + 1) + columns[None, :]) % 1000
    group = rng.random(numbers.max() + 1) < 0.2
    numbered = (labels >= 24) & ~group[numbers]
    return np.where(numbered, labels.astype(np.int64) * 1000 + numbers, labels).astype(np.uint16)


def make_cityscapes(
    root: Path,
    split: str,
    names: Sequence[str],
    labels: Sequence[np.ndarray],
    annotation: str = "gtFine",
    with_instances: bool = True,
    instance_side: int = 16,
) -> None:
    """Frames 'CITY_SEQUENCE_FRAME' with label ids, as leftImg8bit and `annotation`; instances are squares."""
    for seed, (name, label) in enumerate(zip(names, labels)):
        city = name.split("_")[0]
        height, width = label.shape
        write(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image(seed, width, height))
        folder = root / annotation / split / city
        write(folder / f"{name}_{annotation}_labelIds.png", label)
        if with_instances:
            write(folder / f"{name}_{annotation}_instanceIds.png", instances_of(label, seed, instance_side))


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits a sample, of values uint8 (H, W)."""
    return _png(values, bits, 0)


def palette_png(values: np.ndarray, bits: int, palette: np.ndarray) -> bytes:
    """A PNG whose samples are numbers of colours, uint8 (colours, 3) RGB."""
    return _png(values, bits, 3, palette.astype(np.uint8).tobytes())


def _png(values: np.ndarray, bits: int, color_type: int, palette: bytes = b"") -> bytes:
    height, width = values.shape
    each = 8 // bits
    padded = np.pad(values, ((0, 0), (0, -width % each))).reshape(height, -1, each)
    shifts = np.arange(8 - bits, -1, -bits)
    rows = np.bitwise_or.reduce(padded << shifts, 2).astype(np.uint8)
    packed = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", zlib.compress(packed))
        + chunk(b"IEND", b"")
    )
