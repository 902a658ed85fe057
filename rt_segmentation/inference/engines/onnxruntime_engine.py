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

_TENSORRT, _CUDA, _CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
_PREFERRED = (_TENSORRT, _CUDA, _CPU)


def _available() -> list[str]:
    return [name for name in _PREFERRED if name in onnxruntime.get_available_providers()]


def _providers(precision: str) -> list[str | tuple[str, dict[str, Any]]]:
    chosen: list[str | tuple[str, dict[str, Any]]] = [*_available()]
    if chosen[0] == _TENSORRT:
        # Building takes TensorRT minutes, once.
        options = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache.cache_root() / ".tensorrt"),
            "trt_fp16_enable": precision == "fp16",
        }
        chosen[0] = (_TENSORRT, options)
    return chosen


class ONNXRuntimeEngine(CachedEngine):
    """fp32, where it runs on the CPU with all cores that `parallel` frames share; with TensorRT fp16 as well.

    Bytes go in and come out, so that there is nothing to gain from buffers bound to the GPU.
    """

    name = "onnxruntime"

    @property
    def device(self) -> str:
        """The machine and the providers that are tried, in this order."""
        names = [name.removesuffix("ExecutionProvider") for name in _available()]
        return f"{os.uname().machine} {', '.join(names)}"

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `CachedEngine.precisions`."""
        return ("fp16", "fp32") if _TENSORRT in _available() else ("fp32",)

    def _versions(self) -> dict[str, str]:
        return {"onnxruntime": onnxruntime.__version__}

    def _compile(self, graph: Path) -> Runner:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // self._parallel)
        # Errors come as exceptions; what it merely warns about is for its developers.
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(graph), options, providers=_providers(self.precision))

        def run(images: np.ndarray) -> list[np.ndarray]:
            outputs: list[np.ndarray] = session.run(None, {INPUT_NAME: images})
            return outputs

        return run
