"""What engines that execute a model's ONNX graph have in common."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import cache
from pathlib import Path

import numpy as np

from rt_segmentation.inference.cache import CacheEntry
from rt_segmentation.inference.engines.compiled import CompiledEngine
from rt_segmentation.inference.engines.export import (
    LABELS_ONLY,
    WITH_CONFIDENCE,
    check_exportable,
    graph_batch,
    graph_entry,
    onnx_model,
)
from rt_segmentation.inference.engines.interface import Runner, Shape
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest
from rt_segmentation.weights import check_weights

logger = logging.getLogger(__name__)


class ONNXEngine(CompiledEngine[CacheEntry]):
    """An engine that is made of a graph from the cache; from a warm cache nothing imports torch."""

    concurrent = True

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        check_weights(manifest)
        check_exportable(manifest)

    def _runner(self, shape: Shape) -> Runner:
        if shape.confidence and not self._manifest.has_confidence:
            _say_once(self._manifest.name)
            shape = shape._replace(confidence=False)
        return super()._runner(shape)

    def source(self, batch: int, height: int, width: int) -> CacheEntry:
        """See `CompiledEngine.source`."""
        return graph_entry(self._manifest, batch, height, width)


class ONNXFileEngine(ONNXEngine):
    """An engine whose library reads ONNX files, and compiles each in seconds."""

    def compile(self, source: CacheEntry, shape: Shape, options: Options) -> Runner:
        """See `CompiledEngine.compile`."""
        graph = onnx_model(source, WITH_CONFIDENCE if shape.confidence else LABELS_ONLY)
        run = self.compile_graph(graph, options)
        return run if shape.batch == graph_batch(self._manifest, shape.batch) else one_by_one(run)

    @abstractmethod
    def compile_graph(self, graph: Path | bytes, options: Options = PLAIN) -> Runner:
        """Make an ONNX file, or a model in memory, executable; it may raise whatever its library raises."""


@cache
def _say_once(model: str) -> None:
    logger.warning("model '%s' has no confidence: its ONNX graph gives labels alone", model)


def one_by_one(run: Runner) -> Runner:
    """Run the frames of a batch one after the other, in a graph that takes one."""

    def run_all(images: np.ndarray) -> list[np.ndarray]:
        # A runner's arrays may be overwritten by its next run.
        results = [[array.copy() for array in run(images[i : i + 1])] for i in range(len(images))]
        return [np.concatenate(arrays) for arrays in zip(*results)]

    return run_all
