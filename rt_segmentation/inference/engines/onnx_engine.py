"""What engines that execute a model's ONNX graph have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from rt_segmentation.inference.cache import CacheEntry
from rt_segmentation.inference.engines.compiled import CompiledEngine
from rt_segmentation.inference.engines.export import (
    LABELS_ONLY,
    WITH_CONFIDENCE,
    check_exportable,
    graph_entry,
    onnx_model,
)
from rt_segmentation.inference.engines.interface import Runner, Shape
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest, load_weights


class ONNXEngine(CompiledEngine[CacheEntry]):
    """An engine that compiles a graph from the cache; from a warm cache nothing imports torch."""

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        load_weights(manifest)
        check_exportable(manifest)

    def source(self, batch: int, height: int, width: int) -> CacheEntry:
        """See `CompiledEngine.source`."""
        return graph_entry(self._manifest, batch, height, width)

    def compile(self, source: CacheEntry, shape: Shape) -> Runner:
        """See `CompiledEngine.compile`."""
        return self.compile_graph(onnx_model(source, WITH_CONFIDENCE if shape.confidence else LABELS_ONLY))

    @abstractmethod
    def compile_graph(self, graph: Path | bytes) -> Runner:
        """Make an ONNX file, or a model in memory, executable; it may raise whatever its library raises."""
