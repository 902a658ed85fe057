"""The parity gate: an engine must label frames as torch in fp32 does, or it is not used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import IMAGE_SUFFIXES, files_in, spread
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.files import read_rgb, unusable
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.resources import share_dir

MAX_FRAMES = 8
"""So many of the user's frames are looked at; more would make the first start slow."""

# Streets with all classes in view.
_STREETS = ("street_1.png", "street_2.png")


class ParityError(RtSegmentationError, ValueError):
    """Images that cannot be used; the message names them."""


@dataclass(frozen=True)
class Gate:
    """What an engine must reach.

    Attributes:
        fp32, half, int8: smallest share of pixels with torch's label, by the engine's precision; half is fp16
            and bf16.
        frames: folder of images that are looked at beside two street frames: `MAX_FRAMES` of them, evenly
            spread over the sorted names.

    Raises:
        ParityError: the folder does not exist or has no images.
    """

    fp32: float = 0.995
    half: float = 0.99
    int8: float = 0.97
    frames: Path | None = None

    def __post_init__(self) -> None:
        self.files()

    def threshold(self, precision: str) -> float:
        """For a precision: 'fp32', 'fp16', 'bf16' or 'int8'."""
        return {"fp32": self.fp32, "int8": self.int8}.get(precision, self.half)

    def files(self) -> list[Path]:
        """The user's images that are looked at."""
        if self.frames is None:
            return []
        return spread(images_in(self.frames), MAX_FRAMES)

    def frames_digest(self) -> str:
        """Of the images' content, the street's and the user's."""
        content = b"".join(path.read_bytes() for path in (*_streets(), *self.files()))
        return hashlib.sha256(content).hexdigest()[:16]

    def refusal(
        self, engine: str, precision: str, share: float, reference: str = "torch in fp32"
    ) -> str | None:
        """Say in one sentence why an engine with this agreement is not used; None if it may be.

        Args:
            engine: by name.
            precision: its.
            share: of the pixels, with the reference's label.
            reference: what the engine is compared with, in words.
        """
        threshold = self.threshold(precision)
        if share >= threshold:
            return None
        own = f" and {len(self.files())} of {self.frames}" if self.frames else ""
        return (
            f"engine '{engine}' in {precision} gives {share:.2%} of the pixels of two street frames{own} the"
            f" label that {reference} gives them, and {threshold:.1%} is needed"
        )


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, sorted by name.

    Raises:
        ParityError: there is no such folder, or there are no images in it.
    """
    if not folder.is_dir():
        raise ParityError(f"folder {folder} does not exist")
    files = files_in(folder)
    if not files:
        raise ParityError(f"folder {folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    return files


def read_frame(path: Path, height: int, width: int, levels: Levels | None = None) -> np.ndarray:
    """An image file at the network's size, uint8 (height, width, 3) RGB.

    Args:
        path: of the file.
        height: [px]
        width: [px]
        levels: as for `read_rgb`.

    Raises:
        ParityError: it is not an image.
    """
    try:
        return resize_frame(read_rgb(path, levels), height, width)
    except ImageError as error:
        raise ParityError(unusable(path, error)) from error


def resize_frame(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image at the network's size, uint8 (height, width, 3)."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def parity_frames(height: int, width: int, gate: Gate = Gate()) -> np.ndarray:
    """Two street frames and then the user's, uint8 (2 or more, height, width, 3) RGB.

    Raises:
        ParityError: one of the user's cannot be read.
    """
    return np.stack([read_frame(path, height, width) for path in (*_streets(), *gate.files())])


def _streets() -> list[Path]:
    return [share_dir() / "config" / "parity" / name for name in _STREETS]


def agreement(
    segment: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, reference: np.ndarray, batch: int
) -> float:
    """Share of pixels to which an engine gives the reference's label.

    Args:
        segment: from uint8 (batch, H, W, 3) to labels uint8 (batch, H, W).
        frames: uint8 (M, H, W, 3).
        reference: uint8 (M, H, W).
        batch: what `segment` takes; each frame is seen at one place of a batch at least.
    """
    equal = []
    for start in range(0, max(len(frames), batch), batch):
        chosen = [index % len(frames) for index in range(start, start + batch)]
        equal.append(segment(np.ascontiguousarray(frames[chosen])) == reference[chosen])
    return float(np.mean(equal))
