"""Image files: read as the node reads messages, from and to paths that need not be UTF-8.

OpenCV takes a path as text and ends the process where it is not UTF-8, as the names in a zip made elsewhere.
So files are read and written here, and OpenCV gets bytes; where it must open a file itself, it gets a link.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.files import check_file, replacing
from rt_segmentation.imaging import native_messages
from rt_segmentation.imaging.codec import decode_file
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.headers import read_header
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.text import printable

_PNG_DEPTH = 24
"""The byte of a PNG that says how many bits its samples have."""
_TIFF = (b"II*\0", b"MM\0*")


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        ImageError: ``undecodable``: it cannot be read.
    """
    try:
        with native_messages.paused():
            return path.read_bytes()
    except OSError as error:
        raise ImageError("undecodable", f"The file cannot be read: {error.strerror}.") from error


def read_frame(path: Path) -> Frame:
    """Reads an image file of any kind that OpenCV knows as a frame of bgr8, or bgr16 where it has 16 bits.

    An EXIF orientation is applied, as people see the picture who label it.

    Raises:
        ImageError: ``undecodable``: it cannot be read, is no image, or is truncated or broken.
    """
    data = read_bytes(path)
    header = read_header(data)
    mode = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    pixels = _decoded(data, mode) if header is None else decode_file(data, header, mode)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError("undecodable", f"Its samples are {pixels.dtype}; they must have 8 or 16 bits.")
    height, width = pixels.shape[:2]
    return Frame((pixels,), "bgr8" if pixels.dtype == np.uint8 else "bgr16", width, height, 0, "")


def read_rgb(path: Path, levels: Levels | None = None) -> np.ndarray:
    """Read an image file as uint8 (H, W, 3) RGB.

    Args:
        path: of the file.
        levels: which values of 16 bits are black and white; without it the image alone decides.

    Raises:
        ImageError: as `read_frame` raises it.
    """
    return cv2.cvtColor((levels or Levels())(read_frame(path)).planes[0], cv2.COLOR_BGR2RGB)


def shown_size(data: bytes) -> tuple[int, int]:
    """(width, height) [px] of an image file's content as people see it, with its EXIF orientation.

    Raises:
        ImageError: ``undecodable``: it is no image, or is truncated or broken.
    """
    header = read_header(data)
    if header is not None:
        # A JPEG is decoded at an eighth of its size in a fraction of the time.
        height, width = _decoded(data, cv2.IMREAD_REDUCED_GRAYSCALE_8).shape
        if height != width or header.height == header.width:
            turned = (height > width) != (header.height > header.width)
            return (header.height, header.width) if turned else (header.width, header.height)
    height, width = _decoded(data, cv2.IMREAD_GRAYSCALE).shape
    return width, height


def _decoded(data: bytes, mode: int) -> npt.NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageError("undecodable", "The file is not an image that OpenCV can read.")
    return pixels


def unusable(path: Path, error: ImageError) -> str:
    """The sentence for an image file that cannot be used."""
    sentence = str(error).rstrip(".")
    return f"{path} is not an image that can be used: {sentence[0].lower()}{sentence[1:]}"


def may_be_deep(path: Path) -> bool:
    """Whether a file begins as a PNG of 16 bits, or as a TIFF; False also where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_PNG_DEPTH + 1)
    except OSError:
        return False
    return start.startswith(_TIFF) or (start.startswith(b"\x89PNG") and start[_PNG_DEPTH:] == b"\x10")


def check_picture(path: Path) -> None:
    """Say before the work that a picture cannot be written.

    Raises:
        OSError: nothing is known by that suffix, or see `check_file`.
    """
    if not cv2.haveImageWriter(f"picture{printable(path.suffix)}"):
        raise OSError(f"'{printable(path.suffix)}' is no image's suffix")
    check_file(path)


def write_image(path: Path, bgr: npt.NDArray[Any]) -> None:
    """Writes (H, W) or (H, W, 3) BGR; the name's suffix says as what. The file has its name when it is whole.

    Raises:
        OSError: The file cannot be written, or nothing is known by that suffix.
    """
    try:
        encoded = cv2.imencode(path.suffix, bgr)[1]
    except cv2.error as error:
        raise OSError(
            f"picture {printable(path)} cannot be written: '{path.suffix}' is no image's suffix"
        ) from error
    try:
        with replacing(path) as unfinished:
            unfinished.write_bytes(encoded.tobytes())
    except OSError as error:
        raise OSError(f"picture {printable(path)} cannot be written: {error.strerror}") from error


@contextmanager
def path_for_opencv(path: Path) -> Iterator[str]:
    """A path's text, for OpenCV to open the file while this lasts; for a name that is not UTF-8, a link's."""
    text = os.path.abspath(path)
    if printable(text) == text:
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"file{printable(path.suffix)}"
        link.symlink_to(text)
        yield str(link)
