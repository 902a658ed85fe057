"""Grey PNG files of few bits, which OpenCV does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits a sample, of values uint8 (H, W)."""
    height, width = values.shape
    each = 8 // bits
    padded = np.pad(values, ((0, 0), (0, -width % each))).reshape(height, -1, each)
    shifts = np.arange(8 - bits, -1, -bits)
    rows = np.bitwise_or.reduce(padded << shifts, 2).astype(np.uint8)
    packed = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(packed))
        + chunk(b"IEND", b"")
    )
