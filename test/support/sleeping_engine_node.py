"""The segmentation node with one more engine, whose frames all take the same time on any machine."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.models import ModelManifest

FRAME_S = 0.19


class SleepingEngine:
    """Sees class 0 everywhere, after some sleep."""

    name, precision, device = "sleeping", "fp32", "none"
    warnings: tuple[str, ...] = ()

    def __init__(self, manifest: ModelManifest, precision: str, gate: Any = None, parallel: int = 1) -> None:
        """Nothing to load."""

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        return ("fp32",)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """Nothing to compile."""

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        time.sleep(FRAME_S)
        labels = np.zeros(images.shape[:3], np.uint8)
        return labels, labels + 255 if confidence else None

    def release(self, height: int, width: int) -> None:
        """Nothing to let go."""


def main() -> int:
    """Run the node with the engine among its own, before its parameters name their choices."""
    ENGINES[SleepingEngine.name] = f"{SleepingEngine.__module__}:SleepingEngine"
    from rt_segmentation.ros.segmentation_node import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
