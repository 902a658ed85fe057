"""What all our engines have in common: they compile for a shape, are judged, and keep what they compiled."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np

from rt_segmentation.inference import tuned
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.engines.export import reference, reference_name
from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.engines.gate import pass_gate
from rt_segmentation.inference.engines.interface import (
    CalibrationFrames,
    EngineError,
    EngineUnavailable,
    Runner,
    Shape,
)
from rt_segmentation.inference.network import model_identity
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.parity import Gate, agreement
from rt_segmentation.inference.versions import REFERENCE, graph_version
from rt_segmentation.models import ModelManifest

logger = logging.getLogger(__name__)

KEPT = 16
"""So many runners stay in memory: of four sizes (`Sizes`), with and without confidence, for one and for more
frames."""

Source = TypeVar("Source")
"""What both runners of a batch and size are compiled from."""

# One for all engines of a process: libraries are of the process.
_FIRST_RUNS = threading.Lock()


class CompiledEngine(ABC, Generic[Source]):
    """An engine that compiles a model for a batch and size when the first frames of it come.

    What it compiled is used after its labels were compared with torch's (`parity`), with and without
    confidence; the verdict stays in the cache. The `KEPT` runners that were used last stay in memory.

    Args:
        manifest: the model.
        precision: one of `offered()`.
        gate: what its labels must reach.
        parallel: batches that it works on concurrently, if it can.

    Raises:
        EngineUnavailable: the precision is not offered here, or what the engine needs is missing.
        ModelError: the weights are missing, damaged or do not fit the network.
    """

    name: str
    version: int
    """Raised by hand when its code changes what it computes: verdicts and builds before it are stale."""
    warnings: tuple[str, ...] = ()
    concurrent = False
    """Whether it works on several batches concurrently where it is built for it."""

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        offered = self.offered()
        if precision not in offered:
            raise EngineUnavailable(
                f"engine '{self.name}' has no precision '{precision}' on {self.device};"
                f" it has {', '.join(offered)}"
            )
        self.precision = precision
        self._manifest = manifest
        self._gate = gate or Gate()
        self._parallel = parallel
        # The one used last at the end.
        self._runners: OrderedDict[Shape, Runner] = OrderedDict()
        # The first is held for as long as a shape takes to be compiled, the second for moments.
        self._making, self._noting = threading.Lock(), threading.Lock()

    @property
    @abstractmethod
    def device(self) -> str:
        """What executes the model, in words."""

    @classmethod
    @abstractmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `EngineClass.precisions`."""

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        """What can be asked for by name on this machine; `precisions()`, or more than these."""
        return cls.precisions()

    @classmethod
    def calibrate(
        cls, manifest: ModelManifest, frames: CalibrationFrames, batch: int, height: int, width: int
    ) -> str:
        """See `EngineClass.calibrate`; of no use to an engine without int8."""
        raise EngineUnavailable(
            f"engine '{cls.name}' has no int8 that frames could calibrate; onnxruntime, openvino,"
            " tensorrt and torch2trt have"
        )

    @abstractmethod
    def source(self, batch: int, height: int, width: int) -> Source:
        """What frames of a batch and size are compiled from; it may raise whatever its library raises."""

    @abstractmethod
    def compile(self, source: Source, shape: Shape, options: Options) -> Runner:
        """Make a source executable, for any thread; it may raise whatever its library raises."""

    def trial(self, shape: Shape, options: Options) -> Runner:
        """A runner to measure how fast it is: its labels were compared with nothing.

        Raises:
            EngineError: it cannot be made.
        """
        with self._preparing(shape):
            return self._tried(self.source(*shape[:3]), shape, options)

    def options(self, shape: Shape) -> Options:
        """How it is set for a shape: as `rt_seg tune` found, or as ships for this processor."""
        asked = self._manifest, self.name, self.precision, *shape[:3], self._parallel
        return tuned.options_for(*asked)

    @abstractmethod
    def _versions(self) -> dict[str, str]:
        """Of the libraries whose change may change results."""

    def _hardware(self) -> dict[str, Any]:
        """What tells devices of one name apart, as JSON's types."""
        return {}

    def _judged(self) -> bool:
        """Whether its labels may be other ones than torch's."""
        return True

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        self._runner(Shape(batch, height, width, confidence))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        batch, height, width = images.shape[:3]
        runner = self._runner(Shape(batch, height, width, confidence))
        labels, *rest = self._run(runner, images)
        return labels, rest[0] if rest else None

    def release(self, height: int, width: int) -> None:
        """See `Engine.release`."""
        with self._noting:
            for shape in [s for s in self._runners if (s.height, s.width) == (height, width)]:
                del self._runners[shape]

    def _runner(self, shape: Shape) -> Runner:
        runner = self._kept(shape)
        if runner is not None:
            return runner
        # Frames of shapes that are ready go on meanwhile.
        with self._making, self._preparing(shape):
            runner = self._kept(shape)
            if runner is None:
                runner = self._make(shape)
                with self._noting:
                    self._runners[shape] = runner
                    while len(self._runners) > KEPT:
                        self._runners.popitem(last=False)
            return runner

    def _kept(self, shape: Shape) -> Runner | None:
        with self._noting:
            runner = self._runners.get(shape)
            if runner is not None:
                self._runners.move_to_end(shape)
            return runner

    def _make(self, shape: Shape) -> Runner:
        options = self.options(shape)
        if options != PLAIN:
            try:
                return self._judge(shape, options)
            except Exception as error:
                # What the libraries raise is of many types; without the options all is as it was.
                logger.warning(
                    "engine '%s' in %s is not set as `rt_seg tune` or config/kernels.yaml says (%s): %s",
                    self.name,
                    self.precision,
                    options.describe(),
                    reason(error),
                )
        return self._judge(shape, PLAIN)

    def judged(self, shape: Shape, options: Options) -> None:
        """Let an engine that is set so pass the gate; the verdict stays in the cache.

        Raises:
            EngineError: it does not pass, or cannot be made.
        """
        with self._preparing(shape):
            self._judge(shape, options)

    def _judge(self, shape: Shape, options: Options) -> Runner:
        source = self.source(*shape[:3])

        @functools.cache
        def tried(confidence: bool) -> Runner:
            return self._tried(source, shape._replace(confidence=confidence), options)

        if self._judged() or options != PLAIN:
            key = self._verdict_key(source, shape)
            if options != PLAIN:
                key = replace(key, identity={**key.identity, "options": options.to_json()})
            of = f"{reference_name(self._manifest)} at {shape.width}x{shape.height}"
            pass_gate(key, self.precision, self._gate, lambda: self._agreement(tried, shape), of)
        return tried(shape.confidence)

    def _tried(self, source: Source, shape: Shape, options: Options) -> Runner:
        """A runner after its first run: what a library does then is not for two threads."""
        runner = self.compile(source, shape, options)
        with _FIRST_RUNS:
            self._run(runner, np.zeros((*shape[:3], 3), np.uint8))
        return runner

    def _agreement(self, tried: Callable[[bool], Runner], shape: Shape) -> float:
        frames, labels = reference(self._manifest, shape.height, shape.width, self._gate)

        def share(runner: Runner) -> float:
            return agreement(lambda images: self._run(runner, images)[0], frames, labels, shape.batch)

        kinds = (False, True) if self._manifest.has_confidence else (False,)
        return min(share(tried(confidence)) for confidence in kinds)

    def _verdict_key(self, source: Source, shape: Shape) -> CacheKey:
        """Of what the gate judges."""
        key = self._key(*shape[:3])
        return replace(key, made_with={**key.made_with, "reference_version": REFERENCE})

    def _key(self, batch: int, height: int, width: int) -> CacheKey:
        """Of what is compiled for a batch and size."""
        identity: dict[str, Any] = {
            **model_identity(self._manifest),
            "batch": batch,
            "height": height,
            "width": width,
            "precision": self.precision,
            "device": self.device,
            **self._hardware(),
        }
        versions = {
            "graph_version": graph_version(self._manifest.network),
            "engine_version": self.version,
        }
        return CacheKey(self.name, identity, {**versions, **self._versions()})

    def _run(self, runner: Runner, images: np.ndarray) -> list[np.ndarray]:
        try:
            return runner(images)
        except Exception as error:
            # The libraries raise types of their own.
            raise EngineError(f"engine '{self.name}' in {self.precision} failed: {reason(error)}") from error

    @contextlib.contextmanager
    def _preparing(self, shape: Shape) -> Iterator[None]:
        """Whatever goes wrong meanwhile is an EngineError, so that the next engine has its turn.

        Disks, locks of other users, exporters and images to compare with have exceptions of their own.
        """
        try:
            yield
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(
                f"engine '{self.name}' in {self.precision} cannot be made ready for"
                f" {shape.width}x{shape.height}: {reason(error)}"
            ) from error
