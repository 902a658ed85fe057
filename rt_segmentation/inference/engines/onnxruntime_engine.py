"""ONNX Runtime: TensorRT or CUDA where its package has them, else the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

# Its newer builds report usage to their makers, and read this when they are loaded: a robot does not.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from rt_segmentation.inference import cache
from rt_segmentation.inference.engines.cached import CachedEngine, Runner
from rt_segmentation.inference.engines.export import INPUT_NAME

_PREFERRED = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def _providers() -> list[str | tuple[str, dict[str, Any]]]:
    available = onnxruntime.get_available_providers()
    chosen: list[str | tuple[str, dict[str, Any]]] = [name for name in _PREFERRED if name in available]
    if chosen[0] == _PREFERRED[0]:
        # Building takes TensorRT minutes, once.
        folder = cache.cache_root() / ".tensorrt"
        chosen[0] = (
            _PREFERRED[0],
            {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)},
        )
    return chosen


class ONNXRuntimeEngine(CachedEngine):
    """float32, with all cores where it runs on the CPU."""

    name = "onnxruntime"

    @property
    def device(self) -> str:
        """The machine and the providers that are tried, in this order."""
        names = [p if isinstance(p, str) else p[0] for p in _providers()]
        return f"{os.uname().machine} {', '.join(name.removesuffix('ExecutionProvider') for name in names)}"

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `CachedEngine.precisions`."""
        return ("fp32",)

    def _versions(self) -> dict[str, str]:
        return {"onnxruntime": onnxruntime.__version__}

    def _compile(self, graph: Path) -> Runner:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        # Errors come as exceptions; what it merely warns about is for its developers.
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(graph), options, providers=_providers())

        def run(images: np.ndarray) -> list[np.ndarray]:
            outputs: list[np.ndarray] = session.run(None, {INPUT_NAME: images})
            return outputs

        return run
