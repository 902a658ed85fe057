"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import openvino

from rt_segmentation.inference.engines.cached import CachedEngine, Runner

_HINTS = {"fp32": "f32", "bf16": "bf16"}

# The names that Linux gives to bfloat16 arithmetic, on x86 and on Arm. OpenVINO's own list of what a CPU can
# do counts emulation, which is slower than float32.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def _core() -> openvino.Core:
    return openvino.Core()


def _has_bf16() -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(words & _BF16_FLAGS) and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOEngine(CachedEngine):
    """All cores on one frame at a time: the lowest latency. bf16 where the CPU computes in it."""

    name = "openvino"

    @property
    def device(self) -> str:
        """The CPU's name."""
        return str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `CachedEngine.precisions`."""
        return ("bf16", "fp32") if _has_bf16() else ("fp32",)

    def _versions(self) -> dict[str, str]:
        return {"openvino": openvino.__version__}

    def _compile(self, graph: Path) -> Runner:
        compiled = _core().compile_model(
            _core().read_model(str(graph)),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
            },
        )
        request = compiled.create_infer_request()
        count = len(compiled.outputs)

        def run(images: np.ndarray) -> list[np.ndarray]:
            results = request.infer([images], share_inputs=True)
            return [results[index] for index in range(count)]

        return run
