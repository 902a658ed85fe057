"""The engine that a size of frames is best run on, and the next one where it stops working."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rt_segmentation.inference.engines import Engine, EngineError, EngineUnavailable

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Candidate:
    """An engine to try.

    Attributes:
        engine: a name of `ENGINES`.
        precision: one that it may have.
        reason: why it has its place in the order, for the log.
    """

    engine: str
    precision: str
    reason: str = "default order"


class FallbackEngine:
    """Tries engines in order; one that fails is never tried again, and the log says why.

    `name`, `precision` and `device` are those of the engine in use, which may change with the first frames of
    a new size: engines are compiled and judged then, and measurements are of one size.

    Args:
        candidates: in the default order.
        build: makes an engine.
        measured: those that were timed here for frames of a height and width, the fastest first.

    Raises:
        EngineError: none works, now or at a later call; the message has the reason of each.
    """

    name: str
    precision: str
    device: str

    def __init__(
        self,
        candidates: Iterable[Candidate],
        build: Callable[[str, str], Engine],
        measured: Callable[[int, int], Sequence[Candidate]] = lambda height, width: (),
    ) -> None:
        self._candidates = iter(candidates)
        self._build = build
        self._measured = measured
        self._problems: list[str] = []
        self._warnings: list[str] = []
        # None is one that failed.
        self._engines: dict[tuple[str, str], Engine | None] = {}
        self._default: tuple[Engine, str] | None = None
        self._chosen: dict[tuple[int, int], Engine] = {}
        self._choosing = threading.RLock()
        self._engine, reason = self._next_default()
        self._announce(reason)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why engines that were to be used are not."""
        return (*self._warnings, *self._engine.warnings)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        self._attempt(height, width, lambda engine: engine.prepare(batch, height, width, confidence))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        height, width = images.shape[1:3]
        return self._attempt(height, width, lambda engine: engine.infer(images, confidence))

    def _attempt(self, height: int, width: int, call: Callable[[Engine], _T]) -> _T:
        while True:
            engine = self._choose(height, width)
            try:
                return call(engine)
            except EngineError as error:
                self._reject(engine, error)

    def _choose(self, height: int, width: int) -> Engine:
        with self._choosing:
            engine = self._chosen.get((height, width))
            if engine is None:
                engine, reason = self._fastest(height, width) or self._next_default()
                self._chosen[height, width] = engine
                if engine is not self._engine:
                    self._engine = engine
                    self._announce(reason)
            return engine

    def _fastest(self, height: int, width: int) -> tuple[Engine, str] | None:
        for candidate in self._measured(height, width):
            engine = self._get(candidate, promised=True)
            if engine is not None:
                return engine, candidate.reason
        return None

    def _next_default(self) -> tuple[Engine, str]:
        while self._default is None:
            candidate = next(self._candidates, None)
            if candidate is None:
                raise EngineError("no engine works here: " + "; ".join(self._problems))
            # What is not installed was not promised; an engine that fails is worth a look.
            engine = self._get(candidate, promised=False)
            if engine is not None:
                self._default = engine, candidate.reason
        return self._default

    def _get(self, candidate: Candidate, promised: bool) -> Engine | None:
        key = (candidate.engine, candidate.precision)
        if key not in self._engines:
            try:
                self._engines[key] = self._build(*key)
            except EngineError as error:
                self._engines[key] = None
                self._note(error, promised or not isinstance(error, EngineUnavailable))
        return self._engines[key]

    def _reject(self, engine: Engine, error: EngineError) -> None:
        with self._choosing:
            # Another thread's frame may have met the same end.
            if engine not in self._engines.values():
                return
            self._note(error, not isinstance(error, EngineUnavailable))
            self._engines = {key: None if e is engine else e for key, e in self._engines.items()}
            self._chosen = {size: e for size, e in self._chosen.items() if e is not engine}
            if self._default is not None and self._default[0] is engine:
                self._default = None

    def _note(self, error: EngineError, warn: bool) -> None:
        self._problems.append(str(error))
        if warn:
            self._warnings.append(str(error))
        logger.log(logging.WARNING if warn else logging.INFO, "%s; the next engine is tried", error)

    def _announce(self, reason: str) -> None:
        self.name, self.precision, self.device = (
            self._engine.name,
            self._engine.precision,
            self._engine.device,
        )
        others = f"; not used: {'; '.join(self._problems)}" if self._problems else ""
        logger.info("engine '%s' in %s on %s: %s%s", self.name, self.precision, self.device, reason, others)
