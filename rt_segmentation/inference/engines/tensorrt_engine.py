"""TensorRT from our ONNX graphs, on NVIDIA's GPUs and Jetsons, without PyTorch."""

from __future__ import annotations

import hashlib
import logging
import time
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import tensorrt

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey, Made
from rt_segmentation.inference.engines.cuda_driver import driver
from rt_segmentation.inference.engines.export import (
    OPSET,
    WITH_CONFIDENCE,
    graph_batch,
    graph_entry,
    onnx_model,
)
from rt_segmentation.inference.engines.interface import (
    CalibrationFrames,
    EngineError,
    EngineUnavailable,
    Runner,
    Shape,
)
from rt_segmentation.inference.engines.onnx_engine import ONNXEngine, one_by_one
from rt_segmentation.inference.engines.openvino_int8.calibration import ranges_from
from rt_segmentation.inference.engines.openvino_int8.ranges import load_ranges
from rt_segmentation.inference.engines.tensorrt_builds import set_up
from rt_segmentation.inference.engines.tensorrt_execution import Execution
from rt_segmentation.inference.engines.tensorrt_graph import for_tensorrt
from rt_segmentation.inference.options import Options
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest

logger = logging.getLogger(__name__)

ENGINE_FILE = "engine.plan"

# From here on networks can be strongly typed, which since 11 all are.
_OLDEST = 10
_KIND = "tensorrt-engine"


class TensorRTEngine(ONNXEngine):
    """A model's whole graph in TensorRT: bytes go to the GPU, labels and confidence come back.

    One engine for each batch and size, with and without confidence. fp16 is a graph in float16, int8 one with
    pairs that quantise and dequantise, for models that have ranges; the rest of it is in float32.
    """

    name = "tensorrt"
    version = 1

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        self._ranges = load_ranges(manifest) if precision == "int8" else None
        # Of the runners that are kept: those with and without confidence share one.
        self._executions: weakref.WeakValueDictionary[str, Execution] = weakref.WeakValueDictionary()

    @property
    def device(self) -> str:
        """The GPU's name."""
        return driver().name()

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `EngineClass.precisions`; needs TensorRT 10 and a GPU."""
        version = str(tensorrt.__version__)
        if int(version.partition(".")[0]) < _OLDEST:
            raise EngineUnavailable(
                f"engine 'tensorrt' needs TensorRT {_OLDEST} or newer, and {version} is installed"
            )
        driver()
        return ("fp16", "fp32", "int8")

    @classmethod
    def calibrate(
        cls, manifest: ModelManifest, frames: CalibrationFrames, batch: int, height: int, width: int
    ) -> str:
        """See `EngineClass.calibrate`: the ranges are those of engine openvino, which finds them."""
        return ranges_from(manifest, frames)

    def source(self, batch: int, height: int, width: int) -> CacheEntry:
        """See `CompiledEngine.source`: TensorRT's engine from the cache, or built now: minutes."""
        batch = graph_batch(self._manifest, batch)
        key = replace(self._key(batch, height, width), kind=_KIND)

        def make() -> Made:
            content = self._build(batch, height, width)
            return {ENGINE_FILE: content}, {"sha256": hashlib.sha256(content).hexdigest()}

        return cache.find_or_make(key, make)

    def compile(self, source: CacheEntry, shape: Shape, options: Options) -> Runner:
        """See `CompiledEngine.compile`; TensorRT chooses its kernels itself, and has no options."""
        digest = str(source.data["sha256"])
        execution = self._executions.get(digest)
        if execution is None:
            execution = Execution(source.read(ENGINE_FILE), driver())
            self._executions[digest] = execution
        loaded, outputs = execution, execution.outputs[: 2 if shape.confidence else 1]

        def run(images: np.ndarray) -> list[np.ndarray]:
            return loaded.run(np.ascontiguousarray(images), outputs)

        return run if shape.batch == graph_batch(self._manifest, shape.batch) else one_by_one(run)

    def _versions(self) -> dict[str, str]:
        ranges = {"ranges": self._ranges.digest} if self._ranges else {}
        return {"tensorrt": str(tensorrt.__version__), "opset": str(OPSET), **ranges}

    def _hardware(self) -> dict[str, Any]:
        return driver().hardware()

    def _verdict_key(self, source: CacheEntry, shape: Shape) -> CacheKey:
        """Of this build: another one of the same graph has tactics of its own."""
        key = super()._verdict_key(source, shape)
        return replace(key, identity={**key.identity, "engine": source.data["sha256"]})

    def _build(self, batch: int, height: int, width: int) -> bytes:
        graph = graph_entry(self._manifest, batch, height, width)
        try:
            content = for_tensorrt(onnx_model(graph, WITH_CONFIDENCE), self.precision == "fp16", self._ranges)
        except ImportError as error:
            raise EngineUnavailable(
                f"engine 'tensorrt' builds from an ONNX graph, which needs the Python package '{error.name}':"
                " pip install onnx"
            ) from error
        what = f"{self._manifest.name} at {width}x{height} in {self.precision}"
        logger.info("building the TensorRT engine of %s: minutes, the first time", what)
        started = time.monotonic()
        driver().activate()
        log = tensorrt.Logger(tensorrt.Logger.WARNING)
        builder = tensorrt.Builder(log)
        typed = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = tensorrt.OnnxParser(network, log)
        if not parser.parse(content):
            errors = [str(parser.get_error(index)).strip() for index in range(parser.num_errors)]
            said = errors[0] if errors else "its log says why"
            raise EngineError(f"TensorRT's parser refuses the graph of {what}: {said}")
        config = builder.create_builder_config()
        set_up(config, tensorrt, self.precision, what)
        serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            raise EngineError(f"TensorRT could not build the engine of {what}; its log says why")
        logger.info("built the TensorRT engine of %s in %.0f s", what, time.monotonic() - started)
        return bytes(serialized)
