"""Video files of pictures."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from rt_segmentation.imaging.files import path_for_opencv
from rt_segmentation.text import printable

MAX_TICKS = 65535
"""MPEG-4 part 2 counts the ticks of a second in 16 bits."""
MIN_RATE_HZ = 0.01
SPARE_BYTES = 4 * 2**20
"""A disk with less is full to a video: OpenCV does not say when it is, and others write there, too."""


class VideoWriter:
    """An mp4 (MPEG-4 part 2) at a constant rate; the file has its name when it is whole.

    Args:
        path: of the .mp4.
        rate_hz: pictures per second; rounded to what the format can hold.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._rate_hz = path, _rounded(rate_hz)
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0

    def write(self, rgb: np.ndarray) -> None:
        """Add a picture, uint8 (H, W, 3) RGB; it is resized to the first one's size.

        Raises:
            OSError: the file cannot be written (when the first picture comes), or the disk is full; then
                nothing of it is left, and one that was there stays.
        """
        if self._writer is None:
            self._size = (rgb.shape[1], rgb.shape[0])
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            with path_for_opencv(self._partial) as path:
                writer = cv2.VideoWriter(path, fourcc, self._rate_hz, self._size)
            self._writer = writer
            if not writer.isOpened():
                self._discard()
                raise OSError(f"video {printable(self._path)} cannot be written")
        # Some file systems do not know how large they are.
        disk = shutil.disk_usage(self._path.parent)
        if disk.total and disk.free < SPARE_BYTES:
            self._discard()
            raise OSError(f"video {printable(self._path)} cannot be written: the disk is full")
        if (rgb.shape[1], rgb.shape[0]) != self._size:
            rgb = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self) -> bool:
        """Finish the file.

        Returns:
            Whether there is one now; there is none without pictures, or after an error.

        Raises:
            OSError: not all of it could be written; then there is no file, and one that was there stays.
        """
        if self._writer is None:
            return False
        self._writer.release()
        self._writer = None
        # OpenCV does not say when the disk is full. What was not finished has no index and no pictures.
        with path_for_opencv(self._partial) as path:
            written = cv2.VideoCapture(path)
            whole = written.get(cv2.CAP_PROP_FRAME_COUNT) == self._count
            written.release()
        if not whole:
            self._partial.unlink(missing_ok=True)
            raise OSError(f"video {printable(self._path)} cannot be written whole; the disk may be full")
        os.replace(self._partial, self._path)
        return True

    def _discard(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._partial.unlink(missing_ok=True)


def _rounded(rate_hz: float) -> float:
    """The nearest rate that the format holds; OpenCV tries ticks of 1 s down to 1 ms, by powers of ten."""
    rate_hz = min(max(rate_hz, MIN_RATE_HZ), MAX_TICKS)
    digits = next(digits for digits in (3, 2, 1, 0) if rate_hz * 10**digits <= MAX_TICKS)
    return round(rate_hz, digits)
