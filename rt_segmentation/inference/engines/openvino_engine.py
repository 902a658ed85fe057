"""OpenVINO on the CPU."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino

from rt_segmentation import cpu
from rt_segmentation.inference.cache import CacheKey, find, locked, store
from rt_segmentation.inference.engines.export import LABELS_ONLY, graph_identity, onnx_model
from rt_segmentation.inference.engines.interface import CalibrationFrames, EngineError, Runner, Shape
from rt_segmentation.inference.engines.onnx_engine import ONNXFileEngine
from rt_segmentation.inference.engines.openvino_argmax import compare_planes, compares_pixels
from rt_segmentation.inference.engines.openvino_int8.calibration import ranges_from
from rt_segmentation.inference.engines.openvino_int8.places import (
    with_bytes_between,
    with_names,
    without_convolutions,
)
from rt_segmentation.inference.engines.openvino_int8.ranges import (
    QuantizationRanges,
    load_ranges,
    quantize,
    weight_bits,
)
from rt_segmentation.inference.engines.openvino_kernels import (
    LayerGroup,
    choose_kernels,
    executed_kernels,
    in_float,
    time_groups,
)
from rt_segmentation.inference.engines.openvino_orders import read_graph
from rt_segmentation.inference.engines.openvino_whole import keep_whole
from rt_segmentation.inference.options import INSTRUCTIONS, PLAIN, Options, instruction_limit
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest

logger = logging.getLogger(__name__)

COMPILED = "compiled.blob"


# The first call fills a static of C++ and lets the GIL go inside: two threads that meet in it wait for each
# other for ever.
openvino.Type.u8.to_dtype()


@cache
def _core() -> openvino.Core:
    return openvino.Core()


def _has_bf16() -> bool:
    return cpu.has_bf16() and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_graph(
    graph: Path | bytes,
    manifest: ModelManifest,
    precision: str,
    ranges: QuantizationRanges | None,
    parallel: int = 1,
    properties: Mapping[str, object] | None = None,
    tuned: Options = PLAIN,
) -> openvino.CompiledModel:
    """A graph for the CPU.

    Args:
        graph: an ONNX file, or a model in memory.
        manifest: for messages.
        precision: 'fp32', 'bf16' or 'int8'.
        ranges: for int8, else None.
        parallel: concurrent frames, each on its share of the cores.
        properties: more of OpenVINO's.
        tuned: how it is set.
    """
    model = choose_kernels(_core(), _read(graph, ranges, manifest, tuned), tuned.kernels)
    properties = {**_properties(precision, parallel, tuned), **(properties or {})}
    compiled = _core().compile_model(model, "CPU", properties)
    if compares_pixels(compiled) and compare_planes(model):
        compiled = _core().compile_model(model, "CPU", properties)
    return compiled


def _read(
    graph: Path | bytes, ranges: QuantizationRanges | None, manifest: ModelManifest, tuned: Options
) -> openvino.Model:
    model = read_graph(_core(), graph)
    renamed = keep_whole(model) if tuned.whole else None
    if tuned.whole and renamed is None:
        raise EngineError(
            "no layer convolves the halves of a map apart, joins a map with the pooled image or adds"
            " interleaved ones: there is nothing to keep in one piece"
        )
    if ranges is not None:
        if renamed is not None:
            ranges = with_names(ranges, renamed)
        floats = in_float(model, tuned.kernels)
        if floats:
            ranges = without_convolutions(model, ranges, floats)
        if tuned.bytes_between:
            ranges = with_bytes_between(model, ranges)
        quantize(model, ranges, manifest, _weight_bits())
    return model


def _weight_bits() -> int:
    return weight_bits(instruction_limit())


def _properties(precision: str, parallel: int, tuned: Options = PLAIN) -> dict[str, object]:
    in_bf16 = precision == "bf16" or (precision == "int8" and _has_bf16())
    found: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY" if parallel == 1 else "THROUGHPUT",
        "NUM_STREAMS": parallel,
        "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        "INFERENCE_NUM_THREADS": tuned.threads * parallel or len(os.sched_getaffinity(0)),
    }
    if tuned.pinned is not None:
        found["ENABLE_CPU_PINNING"] = tuned.pinned
    return found


class _Runner:
    """A compiled model, with a request for each concurrent batch."""

    def __init__(self, compiled: openvino.CompiledModel, parallel: int) -> None:
        self._compiled = compiled
        self._requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(parallel):
            self._requests.put(compiled.create_infer_request())
        self._count = len(compiled.outputs)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        request = self._requests.get()
        try:
            results = request.infer([images], share_inputs=True)
            return [results[index] for index in range(self._count)]
        finally:
            self._requests.put(request)

    def kernels(self) -> list[str]:
        """What computes each convolution, by OpenVINO's names."""
        return list(executed_kernels(self._compiled).values())


class OpenVINOEngine(ONNXFileEngine):
    """All cores on one frame at a time, or with `parallel` frames as many streams, each on its share of them.

    bf16 where the CPU computes in it; int8 for models that have ranges (`openvino_int8`), with what is not
    quantised in bf16 or fp32.
    """

    name = "openvino"
    version = 2

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        self._ranges = load_ranges(manifest) if precision == "int8" else None

    @property
    def device(self) -> str:
        """The CPU's name."""
        return str(_core().get_property("CPU", "FULL_DEVICE_NAME")).strip()

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `EngineClass.precisions`."""
        return ("bf16", "fp32", "int8") if _has_bf16() else ("fp32", "int8")

    @classmethod
    def calibrate(
        cls, manifest: ModelManifest, frames: CalibrationFrames, batch: int, height: int, width: int
    ) -> str:
        """See `EngineClass.calibrate`: the ranges lie beside the model's weights and serve every size."""
        return ranges_from(manifest, frames)

    def _versions(self) -> dict[str, str]:
        ranges = {"ranges": self._ranges.digest} if self._ranges else {}
        return {"openvino": openvino.__version__, **ranges}

    def _hardware(self) -> dict[str, Any]:
        # Processors of one name differ in it.
        return {"weight_bits": _weight_bits()} if self.precision == "int8" else {}

    def options(self, shape: Shape) -> Options:
        """See `CompiledEngine.options`; where this process has another instruction set, plain."""
        options = super().options(shape)
        if options == PLAIN or options.isa == instruction_limit():
            return options
        logger.info(
            "`rt_seg tune` measured with %s=%s, this process has '%s': OpenVINO chooses by itself",
            INSTRUCTIONS,
            options.isa,
            instruction_limit(),
        )
        return PLAIN

    def compile_graph(self, graph: Path | bytes, options: Options = PLAIN) -> Runner:
        """See `ONNXFileEngine.compile_graph`."""
        return _Runner(self._compiled(graph, options), self._parallel)

    def time_groups(self, shape: Shape, options: Options) -> list[LayerGroup]:
        """Groups of like convolutions and their times, for frames of a shape, without confidence."""
        graph = onnx_model(self.source(*shape[:3]), LABELS_ONLY)
        model = _read(graph, self._ranges, self._manifest, options)
        compiled = compile_graph(
            graph, self._manifest, self.precision, self._ranges, self._parallel, {"PERF_COUNT": True}, options
        )
        # A foreign graph may take one frame at a time.
        frames = np.zeros(tuple(compiled.input(0).shape), np.uint8)
        return time_groups(model, compiled, frames)

    def _compiled(self, graph: Path | bytes, options: Options) -> openvino.CompiledModel:
        """From the cache where it was compiled before, which takes a third of the time, of int8 a quarter."""
        properties = _properties(self.precision, self._parallel, options)
        asked = self._manifest, self.precision, self._ranges, self._parallel, None, options
        if isinstance(graph, bytes):
            return compile_graph(graph, *asked)
        identity = {
            **graph_identity(graph),
            "version": self.version,
            "precision": self.precision,
            "device": self.device,
            # What was compiled before that has another way to its labels.
            "argmax": "by planes",
            **self._hardware(),
            **properties,
            **options.to_json(),
        }
        key = CacheKey("openvino-compiled", identity, self._versions())
        entry = find(key)
        if entry is not None:
            try:
                return _core().import_model(entry.read(COMPILED), "CPU", properties)
            except Exception as error:
                # What its native code raises is of many types.
                logger.warning("OpenVINO's %s cannot be read (%s) and is made again", entry.folder, error)
        compiled = compile_graph(graph, *asked)
        # What cannot be kept is compiled again at the next start.
        with contextlib.suppress(OSError), locked(key):
            store(key, {COMPILED: compiled.export_model().getvalue()}, {})
        return compiled
