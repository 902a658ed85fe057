"""The engine that a size of frames is best run on, and the next one where it stops working."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from rt_segmentation.inference.engines import Engine, EngineError, EngineUnavailable

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

RETRY_S = 30.0
"""What failed for want of memory or disk may work later; to compile costs seconds, which no frame should."""

IN_USE = 100
"""Sizes of so many last frames are in use: what was refused at another one concerns nobody."""

_Key = tuple[str, str]
"""Engine and precision."""
_Size = tuple[int, int]
"""Height and width [px]."""


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


class _Refusal(NamedTuple):
    """Why an engine is not used, and whether that is more than a library that is not installed."""

    sentence: str
    warn: bool


class _Exhausted(NamedTuple):
    """When the last candidate for a size was refused [s, monotonic], and what to tell its frames."""

    since: float
    sentence: str


class FallbackEngine:
    """Tries engines in order; the log says why one is refused.

    An engine that fails for frames of a size is not used for that size any more, for others it is. Where none
    is left for a size its frames fail at once, until after `RETRY_S` all are tried again.

    `name`, `precision` and `device` are those of the engine in use, which may change with the first frames of
    a new size: engines are compiled and judged then, and measurements are of one size.

    Args:
        candidates: gives them in the default order, at each call from the first.
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
        candidates: Callable[[], Iterable[Candidate]],
        build: Callable[[str, str], Engine],
        measured: Callable[[int, int], Sequence[Candidate]] = lambda height, width: (),
    ) -> None:
        self._candidates = candidates
        self._build = build
        self._measured = measured
        self._engines: dict[_Key, Engine] = {}
        self._unbuilt: dict[_Key, _Refusal] = {}
        self._refused: dict[_Size, dict[_Key, _Refusal]] = {}
        self._exhausted: dict[_Size, _Exhausted] = {}
        self._chosen: dict[_Size, Engine] = {}
        # The first is held for as long as an engine takes to be built, the second for moments.
        self._choosing, self._noting = threading.RLock(), threading.Lock()
        self._recent: deque[_Size] = deque(maxlen=IN_USE)
        self._engine, reason = self._first((), {})
        self._announce(reason, {})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why engines that were to be used are not, at the sizes of the last frames."""
        with self._noting:
            refused = [self._refused.get(size, {}) for size in dict.fromkeys(self._recent)]
            refusals = [r for some in (self._unbuilt, *refused) for r in some.values()]
        # Of several sizes one reason may be the same.
        return (*dict.fromkeys(r.sentence for r in refusals if r.warn), *self._engine.warnings)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        self._attempt((height, width), lambda engine: engine.prepare(batch, height, width, confidence))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        height, width = images.shape[1:3]
        return self._attempt((height, width), lambda engine: engine.infer(images, confidence))

    def release(self, height: int, width: int) -> None:
        """See `Engine.release`."""
        with self._choosing:
            size = (height, width)
            self._chosen.pop(size, None)
            self._forget(size)
            for engine in self._engines.values():
                engine.release(height, width)

    def _attempt(self, size: _Size, call: Callable[[Engine], _T]) -> _T:
        with self._noting:
            self._recent.append(size)
        while True:
            engine = self._choose(size)
            try:
                return call(engine)
            except EngineError as error:
                self._refuse(size, engine, error)

    def _choose(self, size: _Size) -> Engine:
        # Frames do not wait while an engine is built for another size.
        engine = self._chosen.get(size)
        if engine is not None:
            return engine
        with self._choosing:
            engine = self._chosen.get(size)
            if engine is not None:
                return engine
            self._start_again_when_due(size)
            refused = self._refused.get(size, {})
            try:
                engine, reason = self._first(self._measured(*size), refused)
            except EngineError as error:
                sentence = f"{error}; all are tried again after {RETRY_S:.0f} s"
                self._exhausted[size] = _Exhausted(time.monotonic(), sentence)
                raise EngineError(sentence) from error
            self._chosen[size] = engine
            if engine is not self._engine:
                self._engine = engine
                self._announce(reason, refused)
            return engine

    def _start_again_when_due(self, size: _Size) -> None:
        exhausted = self._exhausted.get(size)
        if exhausted is None:
            return
        if time.monotonic() - exhausted.since < RETRY_S:
            raise EngineError(exhausted.sentence)
        logger.info("no engine worked for frames of %dx%d: all are tried again", size[1], size[0])
        self._forget(size)
        with self._noting:
            self._unbuilt.clear()

    def _forget(self, size: _Size) -> None:
        self._exhausted.pop(size, None)
        with self._noting:
            self._refused.pop(size, None)

    def _first(self, measured: Sequence[Candidate], refused: dict[_Key, _Refusal]) -> tuple[Engine, str]:
        """The first that can be built of those that are not refused, and the reason of its place."""
        for candidate in chain(measured, self._candidates()):
            key = (candidate.engine, candidate.precision)
            if key in refused:
                continue
            # What is not installed was not promised; an engine that fails is worth a look.
            engine = self._get(key, promised=candidate in measured)
            if engine is not None:
                return engine, candidate.reason
        raise EngineError("no engine works here: " + _reasons(self._unbuilt, refused))

    def _get(self, key: _Key, promised: bool) -> Engine | None:
        if key in self._unbuilt:
            return None
        if key not in self._engines:
            try:
                self._engines[key] = self._build(*key)
            except EngineError as error:
                refusal = _note(error, promised)
                with self._noting:
                    self._unbuilt[key] = refusal
        return self._engines.get(key)

    def _refuse(self, size: _Size, engine: Engine, error: EngineError) -> None:
        with self._choosing:
            # Another thread's frame may have met the same end.
            if self._chosen.get(size) is not engine:
                return
            del self._chosen[size]
            (key,) = (key for key, built in self._engines.items() if built is engine)
            refusal = _note(error, promised=False)
            with self._noting:
                self._refused.setdefault(size, {})[key] = refusal

    def _announce(self, reason: str, refused: dict[_Key, _Refusal]) -> None:
        self.name, self.precision, self.device = (
            self._engine.name,
            self._engine.precision,
            self._engine.device,
        )
        reasons = _reasons(self._unbuilt, refused)
        others = f"; not used: {reasons}" if reasons else ""
        logger.info("engine '%s' in %s on %s: %s%s", self.name, self.precision, self.device, reason, others)


def _note(error: EngineError, promised: bool) -> _Refusal:
    refusal = _Refusal(str(error), promised or not isinstance(error, EngineUnavailable))
    logger.log(logging.WARNING if refusal.warn else logging.INFO, "%s; the next engine is tried", error)
    return refusal


def _reasons(*refusals: dict[_Key, _Refusal]) -> str:
    return "; ".join(refusal.sentence for some in refusals for refusal in some.values())
