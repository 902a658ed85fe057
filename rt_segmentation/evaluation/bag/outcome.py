"""What became of a frame of a bag."""

from __future__ import annotations

from dataclasses import dataclass

from rt_segmentation.evaluation.bag.frames import BagFrame
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmentation


@dataclass(frozen=True, eq=False)
class Segmented:
    """A frame with its mask.

    Attributes:
        model: number of the model.
        source: where the frame comes from.
        frame: the decoded image.
        result: its mask.
        latency_ns: from its arrival to its mask.
        age_ns: how old the mask before was when this one came; None for the first, and without a clock.
    """

    model: int
    source: BagFrame
    frame: Frame
    result: Segmentation
    latency_ns: int
    age_ns: int | None = None


@dataclass(frozen=True, eq=False)
class Dropped:
    """A frame without a mask.

    Attributes:
        model: number of the model.
        source: where the frame comes from.
        reason: 'replaced' by a newer one, an `ImageError`'s reason, or 'failed'.
        problem: what was wrong with it, in a sentence; None where nothing was.
    """

    model: int
    source: BagFrame
    reason: str
    problem: str | None = None


Outcome = Segmented | Dropped
