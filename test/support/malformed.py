"""Messages as no camera should send them: every field of images and files, changed at random from a seed."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from builtin_interfaces.msg import Time  # type: ignore[import-untyped]
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from rt_segmentation.imaging.codec import ENCODINGS

WIDTH, HEIGHT = 64, 48
SIDES = [0, 1, 31, 32, 33, 47, 48, 63, 64, 96, 7680, 7681, 65535, 2**31 - 1, 2**31, 2**32 - 1]
NAMES = ["", "rgb9", "RGB8", "32FC1", "8UC0", "8UC999999999999", "rgb8\n", "ß" * 40, "x" * 10_000, "%s%n{0}"]
FORMATS = [
    "jpeg",
    "png",
    "webp",
    "",
    "rgb8; jpeg compressed bgr8",
    "16UC1; compressedDepth",
    "bayer_rggb8; png",
]
FORMATS += [
    "gif",
    ";;;",
    "x" * 10_000,
    "%s%n{0}",
    "bayer_rggb16; jpeg compressed ",
    "mono16; png compressed ",
]


class Malformed:
    """Makes messages; the same seed makes the same ones.

    Args:
        seed: of all that is random.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        pictures = [pixels, pixels[..., 0], pixels.astype(np.uint16) * 257]
        self._files = [
            cv2.imencode(kind, picture)[1].tobytes()
            for kind in (".jpg", ".png", ".webp", ".bmp", ".tiff")
            for picture in pictures
            if picture.dtype == np.uint8 or kind in (".png", ".tiff")
        ]
        self._files += [b"", b"GIF89a", bytes(100), *(bomb(*sides) for sides in BOMBS)]

    def image(self) -> Image:
        """An image of which one field or several are wrong, or, rarely, none is."""
        message = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH, header=self._header())
        if self._sometimes(0.7):
            message.encoding = str(self._random.choice([*ENCODINGS, *NAMES]))
        if self._sometimes(0.4):
            message.width = int(self._random.choice(SIDES))
        if self._sometimes(0.4):
            message.height = int(self._random.choice(SIDES))
        if self._sometimes(0.5):
            message.step = int(self._random.choice([*SIDES, 2 * WIDTH, 4 * WIDTH, 6 * WIDTH, 8 * WIDTH]))
        message.is_bigendian = int(self._random.choice([0, 1, 2, 255]))
        whole = min(message.step * message.height, 100_000)
        length = int(
            self._random.choice([0, 1, whole, whole, whole, max(whole - 1, 0), whole * 3 // 2, 9_999])
        )
        message.data = self._random.bytes(length)
        return message

    def file(self) -> CompressedImage:
        """A file cut, with bits flipped, lengthened or whole, under a format that may be another's."""
        data = bytearray(self._files[int(self._random.integers(len(self._files)))])
        if data and self._sometimes(0.6):
            # Of the head above all, which states sizes.
            end = 64 if self._sometimes(0.5) else len(data)
            for place in self._random.integers(0, min(end, len(data)), int(self._random.integers(1, 9))):
                data[place] ^= 1 << int(self._random.integers(8))
        if self._sometimes(0.3):
            del data[int(self._random.integers(len(data) + 1)) :]
        if self._sometimes(0.1):
            data += self._random.bytes(1000)
        return CompressedImage(
            format=str(self._random.choice(FORMATS)), data=bytes(data), header=self._header()
        )

    def _header(self) -> Header:
        seconds = int(self._random.choice([0, 1, -1, 2**31 - 1, -(2**31), 1_700_000_000]))
        frame = str(self._random.choice(["", "lens", "ß" * 9, "x" * 5000, "/a//b", "\t\n"]))
        nanoseconds = int(self._random.choice([0, 1, 10**9, 2**32 - 1]))
        return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame)

    def _sometimes(self, share: float) -> bool:
        return bool(self._random.random() < share)


BOMBS = [(2**31 - 1, 2**31 - 1), (65535, 65535), (20_000, 20_000), (7680, 7680), (7680, 33)]


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that says it is as large as that."""
    data = bytearray(cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)
