"""ONNX Runtime: TensorRT or CUDA where its package has them and they work, else the CPU."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from rt_segmentation.inference.cache import CacheKey, find_or_make, locked
from rt_segmentation.inference.engines.export import INPUT_NAME, graph_identity
from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.engines.interface import CalibrationFrames, Runner
from rt_segmentation.inference.engines.onnx_engine import ONNXFileEngine
from rt_segmentation.inference.engines.onnx_int8 import with_bytes
from rt_segmentation.inference.engines.openvino_int8.calibration import ranges_from
from rt_segmentation.inference.engines.openvino_int8.ranges import (
    QuantizationRanges,
    load_ranges,
    weight_bits,
)
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest
from rt_segmentation.provenance import machine

logger = logging.getLogger(__name__)

_TENSORRT, _CUDA, _CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
_PREFERRED = (_TENSORRT, _CUDA, _CPU)

_QUANTISED = "int8.onnx"

# One float copied, as ONNX, to see which providers work.
_PROBE = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


@cache
def working_providers() -> tuple[str, ...]:
    """Those that can be used here, the first choice first.

    The package for GPUs names TensorRT and CUDA as available wherever it is installed. Where their libraries
    are missing a session does without them, and says so on stderr alone.
    """
    found = []
    for name in (name for name in _PREFERRED if name in onnxruntime.get_available_providers()):
        try:
            _session(_PROBE, [name], onnxruntime.SessionOptions())
            found.append(name)
        except Exception as error:
            # What its native code raises is of many types.
            logger.warning("ONNX Runtime's %s cannot be used here: %s", name, reason(error))
    return tuple(found)


def uses_gpu() -> bool:
    """Whether the first choice is a GPU."""
    return working_providers()[0] != _CPU


def _session(
    model: bytes | str, providers: list[Any], options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """A session with the first of the providers; never silently with another one."""
    # Errors come as exceptions; what it merely warns about is for its developers.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if session.get_providers()[0] != wanted:
        raise RuntimeError(f"{wanted} could not be loaded, its libraries may be missing")
    return session


class ONNXRuntimeEngine(ONNXFileEngine):
    """fp32, where it runs on the CPU with all cores that `parallel` frames share; with TensorRT fp16 as well.

    On the CPU int8 for models that have ranges (`openvino_int8`), where it is asked for by name.

    Bytes go in and come out, so that there is nothing to gain from buffers bound to the GPU.
    """

    name = "onnxruntime"
    version = 1

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        self._ranges = load_ranges(manifest) if precision == "int8" else None

    @property
    def device(self) -> str:
        """The machine and the provider."""
        return f"{machine()}, {working_providers()[0].removesuffix('ExecutionProvider')}"

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `EngineClass.precisions`."""
        return ("fp16", "fp32") if _TENSORRT in working_providers() else ("fp32",)

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        """See `CompiledEngine.offered`: int8 is slower than fp32 for networks without plain ReLUs."""
        return cls.precisions() if uses_gpu() else (*cls.precisions(), "int8")

    @classmethod
    def calibrate(
        cls, manifest: ModelManifest, frames: CalibrationFrames, batch: int, height: int, width: int
    ) -> str:
        """See `EngineClass.calibrate`: the ranges are OpenVINO's, and serve every size."""
        if "int8" not in cls.offered():
            return super().calibrate(manifest, frames, batch, height, width)
        return ranges_from(manifest, frames)

    def _versions(self) -> dict[str, str]:
        versions = {"onnxruntime": onnxruntime.__version__}
        if self._ranges is not None:
            versions["ranges"] = self._ranges.digest
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["tensorrt"] = metadata.version("tensorrt")
        return versions

    def compile_graph(self, graph: Path | bytes, options: Options = PLAIN) -> Runner:
        """See `ONNXFileEngine.compile_graph`."""
        session_options = self._session_options(options)
        if self._ranges is not None:
            graph = self._in_int8(graph, self._ranges)
        model = graph if isinstance(graph, bytes) else str(graph)
        with _tensorrt_folder(graph) as folder:
            try:
                session = _session(model, self._providers(folder), session_options)
            except Exception as error:
                if folder is None or not folder.exists():
                    raise
                # Whoever wrote it may have died over it.
                why = reason(error)
                logger.warning("TensorRT's engines in %s fail (%s) and are built again", folder, why)
                shutil.rmtree(folder)
                session = _session(model, self._providers(folder), session_options)

        def run(images: np.ndarray) -> list[np.ndarray]:
            outputs: list[np.ndarray] = session.run(None, {INPUT_NAME: images})
            return outputs

        return run

    def _in_int8(self, graph: Path | bytes, ranges: QuantizationRanges) -> bytes:
        """A graph in int8, from the cache where it was made before: that needs no onnx."""

        def make() -> bytes:
            return with_bytes(graph, ranges, weight_bits())

        if isinstance(graph, bytes):
            return make()
        identity = {**graph_identity(graph), **self._hardware()}
        key = CacheKey("onnxruntime-int8", identity, {"version": self.version, "ranges": ranges.digest})
        return find_or_make(key, lambda: ({_QUANTISED: make()}, {})).read(_QUANTISED)

    def _hardware(self) -> dict[str, Any]:
        # Processors of one name differ in it.
        return {"weight_bits": weight_bits()} if self.precision == "int8" else {}

    def _session_options(self, options: Options) -> onnxruntime.SessionOptions:
        found = onnxruntime.SessionOptions()
        cores = len(os.sched_getaffinity(0))
        found.intra_op_num_threads = options.threads or max(1, cores // self._parallel)
        if options.execution == "parallel":
            found.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        if options.spinning is not None:
            for pool in ("intra_op", "inter_op"):
                found.add_session_config_entry(f"session.{pool}.allow_spinning", str(int(options.spinning)))
        if not options.denormals:
            found.add_session_config_entry("session.set_denormal_as_zero", "1")
        if options.optimisation:
            levels = onnxruntime.GraphOptimizationLevel
            found.graph_optimization_level = {
                "basic": levels.ORT_ENABLE_BASIC,
                "extended": levels.ORT_ENABLE_EXTENDED,
            }[options.optimisation]
        return found

    def _providers(self, folder: Path | None) -> list[str | tuple[str, dict[str, Any]]]:
        # In fp32 all bits count: by default CUDA's tensor cores take 10 of 23.
        cuda = (_CUDA, {"use_tf32": 0})
        tensorrt = {
            # Building takes TensorRT minutes, once.
            "trt_engine_cache_enable": folder is not None,
            **({} if folder is None else {"trt_engine_cache_path": str(folder)}),
            "trt_fp16_enable": self.precision == "fp16",
        }
        chosen: list[str | tuple[str, dict[str, Any]]] = []
        for name in working_providers():
            chosen.append((_TENSORRT, tensorrt) if name == _TENSORRT else cuda if name == _CUDA else name)
        return chosen


@contextlib.contextmanager
def _tensorrt_folder(graph: Path | bytes) -> Iterator[Path | None]:
    """Where TensorRT keeps what it builds of a graph, while no other process is there.

    It names its files by the graph's file and nodes, not by weights and sizes: they lie in the graph's entry
    of the cache, which has both in its name, and go with it. None where nothing can be written.
    """
    if isinstance(graph, bytes) or not os.access(graph.parent, os.W_OK):
        yield None
        return
    folder = graph.parent / "tensorrt"
    if working_providers()[0] != _TENSORRT:
        yield folder
        return
    with locked(CacheKey("tensorrt", {"model": graph.parent.name}, {})):
        yield folder
