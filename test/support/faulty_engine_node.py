"""The segmentation node with an engine that does what the file FAULT says, at the next frame and once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from rt_segmentation.inference.engines import ENGINES, EngineError
from support.sleeping_engine_node import SleepingEngine


class FaultyEngine(SleepingEngine):
    """Says how often it is built."""

    name = "faulty"

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        print("an engine is built", flush=True)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        file = Path(os.environ["FAULT"])
        fault = file.read_text() if file.exists() else ""
        if fault and fault != "hang always":
            file.unlink()
        labels = np.ones(images.shape[:3], np.uint8)
        if fault == "raise":
            raise RuntimeError("the engine is out of luck")
        if fault == "engine error":
            raise EngineError("the device is gone")
        if fault == "memory":
            np.empty(2**62, np.uint8)
        if fault == "shape":
            return labels[:, :-8], None
        if fault == "type":
            return labels.astype(np.float32), None
        if fault == "no array":
            return None, None  # type: ignore[return-value]
        if fault.startswith("hang"):
            print("the engine hangs", flush=True)
            while not Path(os.environ["RELEASE"]).exists():
                time.sleep(0.01)
        return labels, None


def main() -> int:
    """Run the node with the engine among its own, before its parameters name their choices."""
    ENGINES[FaultyEngine.name] = f"{FaultyEngine.__module__}:FaultyEngine"
    from rt_segmentation.ros.segmentation_node import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
