"""What the tests of the node's worker stand on: a part of a camera, and an engine's answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.placement import place
from rt_segmentation.inference.segmenter import Segmentation
from rt_segmentation.labels import load_label_set
from rt_segmentation.runtime.statistics import StreamStatistics

PATIENCE_S = 60.0
LABELS = np.zeros((48, 64), np.uint8)
_LABEL_SET = load_label_set("camvid11")
_PLACEMENT = place((64, 48), (64, 48))


@dataclass(eq=False)
class PartOfCamera:
    """What the worker needs of a camera."""

    outputs: Any
    statistics: StreamStatistics
    name: str = ""
    size: tuple[int, int] | None = None
    failures: list[str] = field(default_factory=list)

    def fails(self, why: str) -> None:
        """Keep it."""
        self.failures.append(why)


def answer(frame: Frame) -> Segmentation:
    """All of the frame is of the first class."""
    return Segmentation(frame, _LABEL_SET, LABELS, None, LABELS, _PLACEMENT, 0.0, 0.0)
