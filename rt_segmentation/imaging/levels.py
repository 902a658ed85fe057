"""16-bit samples to 8 bits: which of the 65536 values are black and white.

A camera of 10, 12 or 14 bits sends them in 16 and does not say how many it uses, and a thermal camera uses a
narrow band in the middle. Whoever knows the number of bits gives it; otherwise it is taken from the images.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.frame import Frame

AUTO = "auto"
IMAGE_BITS = (AUTO, "8", "10", "12", "14", "16")
"""What may be said of 16-bit images: how many bits they use, or that it is to be guessed."""
EIGHT_BIT_FORMATS = {
    **{f"{colours}16": f"{colours}8" for colours in ("mono", "rgb", "bgr", "rgba", "bgra")},
    **{f"bayer_{pattern}16": f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}
"""The pixel formats of 16-bit samples, each with that of 8 bits that it becomes."""

_SAMPLES = 20_000
"""So many pixels of an image are looked at."""
_LOW, _HIGH, _TOP = 0.5, 99.5, 99.9
"""Percentiles: the darkest and brightest that count, and what the bits must hold."""
_WEIGHT = 0.1
"""Of the newest image in the remembered percentiles."""
# A camera that shows a street uses most of its range, one that sees warmth a band far from black.
_BAND_SHARE, _BAND_ABOVE = 1 / 4, 1 / 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Guess:
    """What the images so far say: the bits that hold them, and their percentiles."""

    bits: int
    low: float
    high: float

    @property
    def is_band(self) -> bool:
        """Whether the values lie in a narrow band away from black."""
        full = 1 << self.bits
        return self.high - self.low < full * _BAND_SHARE and self.low > full * _BAND_ABOVE


class Levels:
    """Makes 8 bits of the 16-bit frames of one camera, bag or data set; other frames pass as they are.

    With a number of bits the upper eight of them are taken, and what is above them is white. With 'auto' the
    number is the least of 8, 10, 12, 14 and 16 that holds the images' values (their 99.9th percentile), and
    never shrinks; values in a narrow band far from black, as a thermal camera's, are stretched from their
    0.5th percentile to their 99.5th, which follow the images slowly. May be used by several threads.

    Args:
        bits: One of `IMAGE_BITS`, or a number.
        warn: Told once, and when the number grows, what was guessed; without it the package's log is.

    Raises:
        ValueError: `bits` is none of these.
    """

    def __init__(self, bits: str | int = AUTO, warn: Callable[[str], None] = _log.warning) -> None:
        if str(bits) not in IMAGE_BITS:
            raise ValueError(f"image_bits is {bits!r}; it must be one of {', '.join(IMAGE_BITS)}")
        self.bits = str(bits)
        self._known = None if self.bits == AUTO else int(bits)
        self._warn = warn
        self._guess: _Guess | None = None
        self._settled = False

    def __call__(self, frame: Frame) -> Frame:
        """The frame with 8-bit samples; the same one if it has them already."""
        if frame.pixel_format not in EIGHT_BIT_FORMATS:
            return frame
        if not self._settled:
            self.learn(frame)
        known, guess = self._known, self._guess
        plane = frame.planes[0]
        if known is None and guess is not None and guess.is_band:
            samples = _stretched(plane, guess.low, guess.high)
        else:
            samples = _upper_eight(plane, known or (16 if guess is None else guess.bits))
        return replace(frame, planes=(samples,), pixel_format=EIGHT_BIT_FORMATS[frame.pixel_format])

    def learn(self, frame: Frame) -> None:
        """Let a frame's values count for the guess."""
        if self._known is not None or frame.pixel_format not in EIGHT_BIT_FORMATS:
            return
        low, high, top = np.percentile(_sampled(frame.planes[0]), (_LOW, _HIGH, _TOP)).tolist()
        bits = next(int(bits) for bits in IMAGE_BITS[1:] if top < 1 << int(bits))
        # Two threads may meet here; what one of them forgets, the next frame says again.
        before = self._guess
        if before is not None:
            bits = max(bits, before.bits)
            low = before.low + (low - before.low) * _WEIGHT
            high = before.high + (high - before.high) * _WEIGHT
        self._guess = guess = _Guess(bits, low, high)
        if before is None or before.bits != bits or before.is_band != guess.is_band:
            self._warn(self._sentence(frame.pixel_format, guess))

    def settle(self, frames: Iterable[Frame]) -> Levels:
        """Guess from these frames, and let no later one change it: then a frame's pixels are its own affair.

        Returns:
            Itself. Without a 16-bit frame among them nothing is settled.
        """
        said: list[str] = []
        warn, self._warn = self._warn, said.append
        for frame in frames:
            self.learn(frame)
        self._warn = warn
        self._settled = self._guess is not None
        if said:
            warn(said[-1])
        return self

    @staticmethod
    def _sentence(pixel_format: str, guess: _Guess) -> str:
        found = (
            f"a band from {guess.low:.0f} to {guess.high:.0f}, which is stretched to black and white"
            if guess.is_band
            else f"{guess.bits} bits"
        )
        return (
            f"16-bit images ({pixel_format}): their values were taken for {found}; set image_bits to the"
            " camera's number of bits if that is wrong"
        )


def _sampled(plane: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    # An odd step, so that all colours of a mosaic are met.
    step = max(1, math.isqrt(plane.shape[0] * plane.shape[1] // _SAMPLES)) | 1
    sampled = plane[::step, ::step]
    # Alpha is no light.
    return sampled[..., :3] if sampled.ndim == 3 else sampled


def _upper_eight(plane: npt.NDArray[np.uint16], bits: int) -> npt.NDArray[np.uint8]:
    if bits == 16:
        offset = 0 if plane.dtype == np.dtype(">u2") else 1
        return np.ascontiguousarray(plane.getfield(np.uint8, offset))
    held = np.minimum(plane, np.uint16((1 << bits) - 1))
    return np.asarray(np.right_shift(held, np.uint16(bits - 8)), np.uint8)


def _stretched(plane: npt.NDArray[np.uint16], low: float, high: float) -> npt.NDArray[np.uint8]:
    black = round(low)
    scale = 255.0 / max(high - black, 1.0)
    above = np.maximum(plane, np.uint16(black)) - np.uint16(black)
    return cast("npt.NDArray[np.uint8]", cv2.convertScaleAbs(above.astype(np.uint16), alpha=scale))
