"""What one frame is measured by: its usability, its features, and how unsure models are of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from rt_segmentation.imaging.convert import resize_labels, to_rgb
from rt_segmentation.labels import IGNORE_ID, ids_by_name
from rt_segmentation.runtime.input_health import BLACK_LEVEL, MIN_CONTRAST, WHITE_LEVEL, InputLimits
from rt_segmentation.sampling.errors import SampleError

if TYPE_CHECKING:
    from rt_segmentation.imaging.frame import Frame
    from rt_segmentation.inference.segmenter import Segmenter

THUMBNAIL = (32, 24)
"""Width and height of the picture that says what a frame looks like [px]."""
CELLS = (3, 4)
"""Rows and columns of the grid whose cells say where a frame has which classes."""
MIN_DEVIATION = 0.03
"""A class's share may differ by this from the training's where its deviation there is smaller."""

UNCERTAIN, DISAGREES, FLICKERS, RARE, FAR = "uncertain", "disagrees", "flickers", "rare", "far"
MEASURES = (UNCERTAIN, DISAGREES, FLICKERS, RARE, FAR)


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of a frame.

    Attributes:
        features: float32 (F,): thumbnail, and where which classes are; their distance says how different two
            frames are.
        shares: of the pixels, by class id, float64 (C,); empty without a model.
        values: by the name of a measure, as `MEASURES` has them; those that could be taken.
        problem: why nobody should label it, or ''.
    """

    features: np.ndarray
    shares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    values: dict[str, float] = field(default_factory=dict)
    problem: str = ""


class Measurer:
    """Measures the frames of one camera in the order recorded.

    Args:
        model: labels them; None takes thumbnails alone.
        other: a second model whose labels are compared with the first one's, or None.

    Raises:
        SampleError: the two models have no class of the same name.
    """

    def __init__(self, model: Segmenter | None, other: Segmenter | None = None) -> None:
        self._model, self._other = model, other
        self._translate: np.ndarray | None = None
        if model is not None and other is not None:
            self._translate = ids_by_name(other.config.label_set, model.config.label_set)
            if (self._translate == IGNORE_ID).all():
                raise SampleError(
                    f"models '{model.config.manifest.name}' and '{other.config.manifest.name}' have no class"
                    " of the same name: they cannot be compared"
                )
        self._before: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None

    def restart(self) -> None:
        """Begin with another recording, or after a gap: there is no frame before the next one."""
        self._before = self._thumbnail = None

    def measure(self, frame: Frame) -> Measured:
        """Measure a frame of 8-bit samples.

        Raises:
            EngineError: an engine failed.
        """
        thumbnail = to_rgb(frame, THUMBNAIL)
        problem = _problem(thumbnail)
        if self._thumbnail is not None and np.array_equal(thumbnail, self._thumbnail):
            problem = problem or "the same picture as the one before"
        self._thumbnail = thumbnail
        features = (thumbnail.astype(np.float32) / 255).ravel() / np.sqrt(thumbnail.size)
        if problem or self._model is None:
            return Measured(features, problem=problem)
        return self._segmented(self._model, frame, features)

    def _segmented(self, model: Segmenter, frame: Frame, features: np.ndarray) -> Measured:
        (result,) = model.infer([frame], confidence=True)
        labels, classes = result.labels, len(model.config.label_set.classes)
        values: dict[str, float] = {}
        if result.confidence is not None:
            values[UNCERTAIN] = 1 - float(result.confidence.mean()) / 255
        if self._before is not None and self._before.shape == labels.shape:
            values[FLICKERS] = float(np.mean(self._before != labels))
        self._before = labels.copy()
        if self._other is not None and self._translate is not None:
            (second,) = self._other.infer([frame])
            theirs = resize_labels(second.labels, (labels.shape[1], labels.shape[0]))
            values[DISAGREES] = float(np.mean(self._translate[theirs] != labels))
        layout = _layout(labels, classes)
        shares = layout.mean(0)
        far = _from_profile(model, shares)
        if far is not None:
            values[FAR] = far
        # Half of the cells' shares: a frame whose classes lie elsewhere differs as one of other colours does.
        where = (0.5 * layout / np.sqrt(len(layout))).astype(np.float32)
        return Measured(np.concatenate([features, where.ravel()]), shares, values)


def _problem(thumbnail: np.ndarray) -> str:
    gray = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY)
    limits = InputLimits()
    if np.mean(gray <= BLACK_LEVEL) >= limits.black_share:
        return "black"
    if np.mean(gray >= WHITE_LEVEL) >= limits.white_share:
        return "white"
    return "without contrast" if float(gray.std()) < MIN_CONTRAST else ""


def _layout(labels: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class in each cell of the grid, float64 (cells, C)."""
    cells = [
        np.bincount(cell.ravel(), minlength=256)[:classes] / cell.size
        for row in np.array_split(labels, CELLS[0], 0)
        for cell in np.array_split(row, CELLS[1], 1)
    ]
    return np.array(cells)


def _from_profile(model: Segmenter, shares: np.ndarray) -> float | None:
    """How far the shares are from those on the model's own data [standard deviations]; None if unknown."""
    profile = model.config.manifest.profile
    if profile is None:
        return None
    deviation = np.maximum(np.array(profile.shares_std), MIN_DEVIATION)
    return float((np.abs(shares - np.array(profile.shares)) / deviation).max())
