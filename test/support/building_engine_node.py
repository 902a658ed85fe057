"""The segmentation node with an engine that is built for ever, in native code that answers no signal."""

from __future__ import annotations

import ctypes
import sys

from rt_segmentation.inference.engines import ENGINES
from support.sleeping_engine_node import SleepingEngine


class BuildingEngine(SleepingEngine):
    """Never ready."""

    name = "building"

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        print("the build begins", flush=True)
        # A mutex that its own thread locks twice: the second call does not return, nor for a signal.
        lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
        lock(mutex)
        lock(mutex)


def main() -> int:
    """Run the node with the engine among its own, before its parameters name their choices."""
    ENGINES[BuildingEngine.name] = f"{BuildingEngine.__module__}:BuildingEngine"
    from rt_segmentation.ros.segmentation_node import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
