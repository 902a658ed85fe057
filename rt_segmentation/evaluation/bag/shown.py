"""Pictures of the worst frames, written while the bag streams by for those that are the worst so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.files import write_atomically
from rt_segmentation.imaging.codec import encode_jpeg
from rt_segmentation.imaging.convert import resize_labels, to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.render import colorize, overlay

MAX_SHOWN = 24
MAX_WIDTH_PX = 960


@dataclass(frozen=True)
class Shown:
    """A frame with pictures; paths are relative to the output folder.

    Attributes:
        bag, index: which frame of which bag.
        t_s: since the bag's start.
        mean_iou, confidence, consistency: of the frame, where there are.
        image, overlay, truth: JPEG files; truth is None without ground truth.
    """

    bag: int
    index: int
    t_s: float
    mean_iou: float | None
    confidence: float | None
    consistency: float | None
    image: str
    overlay: str
    truth: str | None

    def badness(self) -> tuple[int, float, int, int]:
        """Sorts the worst first: by mean IoU, else by confidence, else by consistency."""
        scores = (self.mean_iou, self.confidence, self.consistency)
        kind, score = next(((i, s) for i, s in enumerate(scores) if s is not None), (len(scores), 0.0))
        return kind, score, self.bag, self.index

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def worst(shown: list[Shown]) -> list[Shown]:
    """The worst `MAX_SHOWN` of them, worst first."""
    return sorted(shown, key=Shown.badness)[:MAX_SHOWN]


class Gallery:
    """The worst frames of a model on a bag, with their pictures on disk.

    Args:
        out: the output folder.
        folder: of this model's pictures, relative to it.
        palette: of the label set.
        shown: what is there already.

    Attributes:
        problem: why the first picture that could not be written was not, in a sentence, or ''; its frame is
            among the worst all the same.
    """

    def __init__(self, out: Path, folder: str, palette: np.ndarray, shown: list[Shown]) -> None:
        self._out, self._folder, self._palette = out, folder, palette
        self.shown = shown
        self.problem = ""

    def offer(
        self,
        place: tuple[int, int, float],
        scores: tuple[float | None, float | None, float | None],
        frame: Frame,
        labels: np.ndarray,
        truth: np.ndarray | None,
    ) -> None:
        """Take a frame in, if it is among the worst so far.

        Args:
            place: bag, index and time since the bag's start [s].
            scores: mean IoU, confidence and consistency, each None where it is not known.
            frame: the camera's image.
            labels: uint8 (H, W).
            truth: uint8 (H, W); None without ground truth.
        """
        stem = f"{self._folder}/{place[0]:04}_{place[1]:06}"
        pictures = (f"{stem}.jpg", f"{stem}_overlay.jpg", None if truth is None else f"{stem}_truth.jpg")
        candidate = Shown(*place, *scores, *pictures)
        if len(self.shown) >= MAX_SHOWN:
            best = max(self.shown, key=Shown.badness)
            if candidate.badness() > best.badness():
                return
            self.shown.remove(best)
            remove_pictures(self._out, best)
        self.shown.append(candidate)
        width = min(frame.width, MAX_WIDTH_PX)
        size = (width, round(frame.height * width / frame.width))
        rgb = to_rgb(frame, size)
        self._write(candidate.image, rgb)
        self._write(candidate.overlay, overlay(rgb, resize_labels(labels, size), self._palette))
        if truth is not None and candidate.truth is not None:
            self._write(candidate.truth, colorize(resize_labels(truth, size), self._palette))

    def _write(self, name: str, rgb: np.ndarray) -> None:
        try:
            write_atomically(self._out / name, encode_jpeg(rgb))
        except OSError as error:
            self.problem = self.problem or f"not all pictures of the worst frames could be written: {error}"


def remove_pictures(out: Path, shown: Shown) -> None:
    """Delete a frame's pictures."""
    for name in (shown.image, shown.overlay, shown.truth):
        if name is not None:
            (out / name).unlink(missing_ok=True)
