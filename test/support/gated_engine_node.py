"""The segmentation node with an engine whose build for WxH ends when the file GATES/WxH is there."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference.engines import ENGINES
from rt_segmentation.models import ModelManifest
from support.sleeping_engine_node import SleepingEngine


class GatedEngine(SleepingEngine):
    """Says what it does."""

    name = "gated"

    def __init__(self, manifest: ModelManifest, precision: str, gate: Any = None, parallel: int = 1) -> None:
        """As long as a library takes to be loaded."""
        while (Path(os.environ["GATES"]) / "loading").exists():
            time.sleep(0.01)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        print(f"building {width}x{height}", flush=True)
        while not (Path(os.environ["GATES"]) / f"{width}x{height}").exists():
            time.sleep(0.01)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        print(f"seen at {images.shape[2]}x{images.shape[1]}", flush=True)
        return np.zeros(images.shape[:3], np.uint8), None


def main() -> int:
    """Run the node with the engine among its own, before its parameters name their choices."""
    ENGINES[GatedEngine.name] = f"{GatedEngine.__module__}:GatedEngine"
    from rt_segmentation.ros.segmentation_node import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
