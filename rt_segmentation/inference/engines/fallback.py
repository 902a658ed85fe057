"""The first engine that works, and the next one where it stops working."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np

from rt_segmentation.inference.engines import Engine, EngineError, EngineUnavailable

logger = logging.getLogger(__name__)


class FallbackEngine:
    """Tries engines in order; one that fails is never tried again, and the log says why.

    `name`, `precision` and `device` are those of the engine in use, which may change with the first frames of
    a new size: engines are compiled and judged then.

    Args:
        candidates: pairs of engine and precision, in order.
        build: makes an engine of such a pair.

    Raises:
        EngineError: none works, now or at a later call; the message has the reason of each.
    """

    name: str
    precision: str
    device: str

    def __init__(self, candidates: Iterable[tuple[str, str]], build: Callable[[str, str], Engine]) -> None:
        self._candidates = iter(candidates)
        self._build = build
        self._problems: list[str] = []
        self._engine = self._next()

    def _next(self) -> Engine:
        for name, precision in self._candidates:
            try:
                engine = self._build(name, precision)
            except EngineError as error:
                self._reject(error)
                continue
            self.name, self.precision, self.device = engine.name, engine.precision, engine.device
            others = f"; not used: {'; '.join(self._problems)}" if self._problems else ""
            logger.info("engine '%s' in %s on %s%s", self.name, self.precision, self.device, others)
            return engine
        raise EngineError("no engine works here: " + "; ".join(self._problems))

    def _reject(self, error: EngineError) -> None:
        self._problems.append(str(error))
        # What is not installed was not promised; an engine that fails is worth a look.
        level = logging.INFO if isinstance(error, EngineUnavailable) else logging.WARNING
        logger.log(level, "%s; the next engine is tried", error)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        while True:
            try:
                return self._engine.prepare(batch, height, width, confidence)
            except EngineError as error:
                self._reject(error)
                self._engine = self._next()

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        while True:
            try:
                return self._engine.infer(images, confidence)
            except EngineError as error:
                self._reject(error)
                self._engine = self._next()
