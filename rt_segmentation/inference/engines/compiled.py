"""What engines that execute a graph from the cache have in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey
from rt_segmentation.inference.engines import EngineError, EngineUnavailable
from rt_segmentation.inference.engines.export import (
    LABELS_ONLY,
    WITH_CONFIDENCE,
    check_exportable,
    graph_entry,
    onnx_model,
    reference,
)
from rt_segmentation.inference.engines.failures import preparing
from rt_segmentation.inference.engines.gate import pass_gate
from rt_segmentation.inference.parity import Gate, agreement
from rt_segmentation.models import ModelManifest, load_weights

_T = TypeVar("_T")

# One for all engines of a process: libraries are of the process.
_FIRST_RUNS = threading.Lock()

Runner = Callable[[np.ndarray], "list[np.ndarray]"]
"""From uint8 (N, H, W, 3) to the graph's outputs, in arrays that are the caller's; any thread may call it."""


class CachedEngine(ABC):
    """An engine that compiles a model's graph for each batch and size when the first frames of it come.

    A compiled graph is used after its labels were compared with torch's (`parity`); the verdict stays in the
    cache. From a warm cache nothing imports torch.

    Args:
        manifest: the model.
        precision: one of `precisions()`.
        gate: what its labels must reach.
        parallel: batches that it works at at once.

    Raises:
        EngineUnavailable: the precision is not offered here, or no graph can be made.
        ModelError: the weights are missing, damaged or do not fit the network.
    """

    name: str
    warnings: tuple[str, ...] = ()

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        offered = self.precisions()
        if precision not in offered:
            raise EngineUnavailable(
                f"engine '{self.name}' has no precision '{precision}' on {self.device};"
                f" it has {', '.join(offered)}"
            )
        self.precision = precision
        load_weights(manifest)
        check_exportable(manifest)
        self._manifest = manifest
        self._gate = gate or Gate()
        self._parallel = parallel
        self._runners: dict[tuple[int, int, int, bool], Runner] = {}
        self._compiling = threading.Lock()

    @property
    @abstractmethod
    def device(self) -> str:
        """What executes the graph, in words."""

    @classmethod
    @abstractmethod
    def precisions(cls) -> tuple[str, ...]:
        """What is offered on this machine, the first choice first."""

    @abstractmethod
    def _versions(self) -> dict[str, str]:
        """Of the libraries whose change may change results."""

    @abstractmethod
    def _compile(self, graph: Path | bytes) -> Runner:
        """Make an ONNX file, or a model in memory, executable; it may raise whatever its library raises."""

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        self._runner(batch, height, width, confidence)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        batch, height, width = images.shape[:3]
        runner = self._runner(batch, height, width, confidence)
        labels, *rest = self._attempt(lambda: runner(images))
        return labels, rest[0] if rest else None

    def release(self, height: int, width: int) -> None:
        """See `Engine.release`."""
        for key in [key for key in list(self._runners) if key[1:3] == (height, width)]:
            self._runners.pop(key, None)

    def _runner(self, batch: int, height: int, width: int, confidence: bool) -> Runner:
        key = (batch, height, width, confidence)
        runner = self._runners.get(key)
        if runner is not None:
            return runner
        with self._compiling, preparing(self.name, self.precision, height, width):
            runner = self._runners.get(key)
            if runner is None:
                graph = graph_entry(self._manifest, batch, height, width)
                self._pass_gate(graph, batch)
                runner = self._tried(graph, confidence)
                self._runners[key] = runner
            return runner

    def _tried(self, graph: CacheEntry, confidence: bool) -> Runner:
        """A graph made executable, after its first run: what a library does then is not for two threads."""
        identity = graph.key["identity"]
        runner = self._attempt(lambda: self._compile(_model(graph, confidence)))
        black = np.zeros((identity["batch"], identity["height"], identity["width"], 3), np.uint8)
        with _FIRST_RUNS:
            self._attempt(lambda: runner(black))
        return runner

    def _pass_gate(self, graph: CacheEntry, batch: int) -> None:
        identity = {**graph.key["identity"], "precision": self.precision, "device": self.device}
        key = CacheKey(self.name, identity, {"code": cache.code_digest(), **self._versions()})
        pass_gate(key, self.precision, self._gate, lambda: self._agreement(graph, batch))

    def _agreement(self, graph: CacheEntry, batch: int) -> float:
        identity = graph.key["identity"]
        frames, labels = reference(self._manifest, identity["height"], identity["width"], self._gate)
        shares = []
        for confidence in (False, True):
            runner = self._tried(graph, confidence)

            def segment(images: np.ndarray, runner: Runner = runner) -> np.ndarray:
                return self._attempt(lambda: runner(images))[0]

            shares.append(agreement(segment, frames, labels, batch))
        return min(shares)

    def _attempt(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except Exception as error:
            # The libraries raise types of their own, and what they say may have many lines.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise EngineError(f"engine '{self.name}' in {self.precision} failed: {reason}") from error


def _model(graph: CacheEntry, confidence: bool) -> Path | bytes:
    return onnx_model(graph, WITH_CONFIDENCE if confidence else LABELS_ONLY)
