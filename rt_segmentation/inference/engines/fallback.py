"""The engine that a shape of frames is best run on, and the next one where it stops working."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from rt_segmentation.inference.engines.interface import (
    Description,
    Engine,
    EngineError,
    EngineUnavailable,
    GraphUnavailable,
    Shape,
    StandsForEngine,
    describe,
)

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

RETRY_S = 30.0
"""What failed for want of memory or disk may work later; to compile costs seconds, which no frame should."""

IN_USE = 100
"""Shapes of so many last frames are in use: what was refused at another one concerns nobody."""

_Key = tuple[str, str]
"""Engine and precision."""


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

    @property
    def key(self) -> _Key:
        """What it is, without the reason."""
        return self.engine, self.precision


class _Refusal(NamedTuple):
    """Why an engine is not used, and whether that is more than a library that is not installed."""

    sentence: str
    warn: bool


class _Running(NamedTuple):
    """What frames of a shape are run on."""

    key: _Key
    engine: Engine


class _Exhausted(NamedTuple):
    """When the last candidate for a shape was refused, by the clock, and what to tell its frames."""

    since: float
    sentence: str


@dataclass
class _Choice:
    """What is known of a shape.

    Attributes:
        state: None where an engine is to be chosen.
        refusals: replaced as a whole, so that it may be read meanwhile.
    """

    state: _Running | _Exhausted | None = None
    refusals: dict[_Key, _Refusal] = field(default_factory=dict)


class FallbackEngine(StandsForEngine):
    """Tries engines in order; the log says why one is refused.

    An engine that fails for frames of a shape (batch, size, with or without confidence) is not used for that
    shape any more, for others it is. Where none is left for a shape its frames fail immediately, until after
    `RETRY_S` all are tried again.

    `name`, `precision` and `device` are those of the engine in use, which may change with the first frames of
    a new shape: engines are compiled and judged then, and measurements are of one size.

    Args:
        candidates: gives them in the default order, at each call from the first.
        build: makes an engine.
        measured: those that were timed here for frames of a height and width, the fastest first.
        clock: seconds that only grow.

    Raises:
        EngineError: none works, now or at a later call; the message has the reason of each.
    """

    def __init__(
        self,
        candidates: Callable[[], Iterable[Candidate]],
        build: Callable[[str, str], Engine],
        measured: Callable[[int, int], Sequence[Candidate]] = lambda height, width: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._candidates, self._build, self._measured = candidates, build, measured
        self._clock = clock
        self._engines: dict[_Key, Engine] = {}
        # Replaced as a whole, as a choice's refusals.
        self._unbuilt: dict[_Key, _Refusal] = {}
        self._choices: dict[Shape, _Choice] = {}
        self._recent: deque[Shape] = deque(maxlen=IN_USE)
        self._ran: tuple[_Key, ...] = ()
        # The first is held for as long as an engine takes to be built, the second for moments.
        self._choosing, self._noting = threading.RLock(), threading.Lock()
        running, why = self._first((), {})
        self._in_use = running.engine
        self._announce(why, {})

    @property
    def current(self) -> Description:
        """The engine in use, and why others that were to be used are not, for the last frames' shapes."""
        with self._noting:
            recent = [self._choices.get(shape) for shape in dict.fromkeys(self._recent)]
        engine = describe(self._in_use)
        noted = chain(self._unbuilt.values(), *(c.refusals.values() for c in recent if c is not None))
        # Of several shapes one reason may be the same.
        refused = dict.fromkeys(refusal.sentence for refusal in noted if refusal.warn)
        return Description(engine.name, engine.precision, engine.device, (*refused, *engine.warnings))

    @property
    def ran(self) -> tuple[tuple[str, str], ...]:
        """See `StandsForEngine`."""
        return self._ran

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        shape = Shape(batch, height, width, confidence)
        self._attempt(shape, lambda engine: engine.prepare(*shape))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        batch, height, width = images.shape[:3]
        shape = Shape(batch, height, width, confidence)

        def run(engine: Engine) -> tuple[np.ndarray, np.ndarray | None]:
            answers = engine.infer(images, confidence)
            self._note_run((engine.name, engine.precision))
            return answers

        return self._attempt(shape, run)

    def release(self, height: int, width: int) -> None:
        """See `Engine.release`."""
        with self._choosing:
            with self._noting:
                for shape in [s for s in self._choices if (s.height, s.width) == (height, width)]:
                    del self._choices[shape]
            for engine in self._engines.values():
                engine.release(height, width)

    def _note_run(self, key: _Key) -> None:
        if key not in self._ran:
            with self._noting:
                self._ran = tuple(dict.fromkeys((*self._ran, key)))

    def _attempt(self, shape: Shape, call: Callable[[Engine], _T]) -> _T:
        with self._noting:
            self._recent.append(shape)
        while True:
            running = self._choose(shape)
            try:
                return call(running.engine)
            except EngineError as error:
                self._refuse(shape, running, error)

    def _choose(self, shape: Shape) -> _Running:
        # Frames do not wait while an engine is built for another shape.
        choice = self._choices.get(shape)
        state = None if choice is None else choice.state
        if isinstance(state, _Running):
            return state
        with self._choosing:
            with self._noting:
                choice = self._choices.setdefault(shape, _Choice())
            if isinstance(choice.state, _Running):
                return choice.state
            if isinstance(choice.state, _Exhausted):
                self._start_again_when_due(shape, choice, choice.state)
            try:
                running, why = self._first(self._measured(shape.height, shape.width), choice.refusals)
            except EngineError as error:
                sentence = f"{error}; all are tried again after {RETRY_S:.0f} s"
                choice.state = _Exhausted(self._clock(), sentence)
                raise EngineError(sentence) from error
            choice.state = running
            if running.engine is not self._in_use:
                self._in_use = running.engine
                self._announce(why, choice.refusals)
            return running

    def _start_again_when_due(self, shape: Shape, choice: _Choice, exhausted: _Exhausted) -> None:
        if self._clock() - exhausted.since < RETRY_S:
            raise EngineError(exhausted.sentence)
        logger.info("no engine worked for frames of %dx%d: all are tried again", shape.width, shape.height)
        choice.state, choice.refusals, self._unbuilt = None, {}, {}

    def _first(self, measured: Sequence[Candidate], refused: dict[_Key, _Refusal]) -> tuple[_Running, str]:
        """The first that can be built of those that are not refused, and the reason of its place."""
        for candidate in chain(measured, self._candidates()):
            if candidate.key in refused:
                continue
            # What is not installed was not promised; an engine that fails is worth a look.
            engine = self._get(candidate.key, promised=candidate in measured)
            if engine is not None:
                return _Running(candidate.key, engine), candidate.reason
        raise EngineError("no engine works here: " + _reasons(self._unbuilt, refused))

    def _get(self, key: _Key, promised: bool) -> Engine | None:
        if key in self._unbuilt:
            return None
        if key not in self._engines:
            try:
                self._engines[key] = self._build(*key)
            except EngineError as error:
                self._unbuilt = {**self._unbuilt, key: _note(error, promised)}
        return self._engines.get(key)

    def _refuse(self, shape: Shape, running: _Running, error: EngineError) -> None:
        with self._choosing:
            choice = self._choices.get(shape)
            # Another thread's frame may have met the same end.
            if choice is not None and choice.state is running:
                choice.refusals = {**choice.refusals, running.key: _note(error, promised=False)}
                choice.state = None

    def _announce(self, why: str, refused: dict[_Key, _Refusal]) -> None:
        engine = describe(self._in_use)
        reasons = _reasons(self._unbuilt, refused)
        others = f"; not used: {reasons}" if reasons else ""
        logger.info(
            "engine '%s' in %s on %s: %s%s", engine.name, engine.precision, engine.device, why, others
        )


def _note(error: EngineError, promised: bool) -> _Refusal:
    is_usual = isinstance(error, EngineUnavailable) and not isinstance(error, GraphUnavailable)
    refusal = _Refusal(str(error), promised or not is_usual)
    logger.log(logging.WARNING if refusal.warn else logging.INFO, "%s; the next engine is tried", error)
    return refusal


def _reasons(*refusals: dict[_Key, _Refusal]) -> str:
    return "; ".join(refusal.sentence for some in refusals for refusal in some.values())
