"""The segmentation node with an engine that keeps Python's lock at the first frame for ever."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from rt_segmentation.inference.engines import ENGINES
from support.sleeping_engine_node import SleepingEngine

PREPARE_S = 9


class FrozenEngine(SleepingEngine):
    """Takes its time to be built, with the lock as well, and then freezes."""

    name = "frozen"

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        ctypes.PyDLL(None).sleep(PREPARE_S)
        print("built", flush=True)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        # A mutex that its own thread locks twice, called without letting go of Python's lock.
        lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
        lock(mutex)
        lock(mutex)
        raise AssertionError


def main() -> int:
    """Run the node with the engine among its own, before its parameters name their choices."""
    ENGINES[FrozenEngine.name] = f"{FrozenEngine.__module__}:FrozenEngine"
    from rt_segmentation.ros.segmentation_node import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
