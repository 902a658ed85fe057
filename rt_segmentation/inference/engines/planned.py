"""How many frames an engine works on concurrently: as measured on this machine, for one or for several."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rt_segmentation.cpu import Others
from rt_segmentation.inference import tuning
from rt_segmentation.inference.engines.choosing import build_engine, works_concurrently
from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.engines.interface import (
    Description,
    Engine,
    EngineError,
    StandsForEngine,
    describe,
)
from rt_segmentation.inference.parity import Gate
from rt_segmentation.inference.tuning import Throughput
from rt_segmentation.models import ModelManifest
from rt_segmentation.provenance import cores

logger = logging.getLogger(__name__)

GAIN = 1.2
"""Several concurrent frames of a camera must give so many times the rate of one: each mask comes later."""

GAIN_OF_CAMERAS = 1.05
"""Those of several cameras only so many times: frames that come together wait for each other in any case,
and the last of them waits less. A node that has other work on the same cores gains more than its engine."""

BUDGET_S = 0.6
"""The measurement at the start begins no round that would end after this time."""

TURN_S = 0.08
"""Each engine's turn takes about so long before the other one has its own."""

SLOWEST_S = 0.4
"""An engine that takes longer for a frame is not measured at the start: that would take seconds."""

LIMIT_S = 2.0
"""The measurement ends after this time in any case: where two concurrent frames have not come by then,
one frame at a time is right for this start."""

BUSY = 0.2
"""Where other processes take more than this share of the processor, the measurement is not kept."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Plan:
    """What an engine is given to work on concurrently.

    Attributes:
        parallel: frames, or batches, that threads have it work on concurrently.
        batch: frames of several cameras that become one batch where so many wait.
        why: what decided, in words.
    """

    parallel: int
    batch: int
    why: str

    def __str__(self) -> str:
        """For diagnostics."""
        batches = f", batches of {self.batch}" if self.batch > 1 else ""
        return f"{self.parallel}{batches}: {self.why}"


def choose(measured: Sequence[Throughput], cameras: int, origin: str) -> Plan | None:
    """The best plan of those that were measured.

    Args:
        measured: of one engine.
        cameras: so many frames can wait together.
        origin: who measured, for `Plan.why`.

    Returns:
        None where one frame at a time is not among them, or is the only one.
    """
    alone = next((t for t in measured if (t.parallel, t.batch) == (1, 1)), None)
    others = [t for t in measured if t is not alone and t.batch <= cameras]
    if alone is None or not others:
        return None
    best = max(others, key=lambda t: t.frames_hz)
    rates = (
        f"{best.words} {best.frames_hz:.1f} frames per second, one at a time {alone.frames_hz:.1f} ({origin})"
    )
    gain = GAIN if cameras == 1 else GAIN_OF_CAMERAS
    if best.frames_hz < gain * alone.frames_hz:
        return Plan(1, 1, f"{rates}; more than one needs {gain:g} times the rate")
    return Plan(best.parallel, best.batch, rates)


class PlannedEngine(StandsForEngine):
    """An engine that is given as many concurrent frames as `rt_seg tune`, or else its own start, measured.

    The first size that is prepared decides, once. What is not measured is one frame at a time.

    Args:
        manifest: the model.
        build: makes an engine for so many concurrent frames; each of the same kind.
        cameras: so many frames can wait together.
        concurrent: whether engines of a name work on several frames concurrently.
        clock: seconds that only grow.

    Attributes:
        plan: what to give it concurrently; may change with `prepare`.

    Raises:
        EngineError, ModelError: as `build` does for one frame at a time.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        build: Callable[[int], Engine],
        cameras: int = 1,
        concurrent: Callable[[str], bool] = works_concurrently,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._manifest, self._build, self._cameras = manifest, build, cameras
        self._concurrent, self._clock = concurrent, clock
        self._engine = build(1)
        self._preparing = threading.Lock()
        self._decided = False
        self.plan = Plan(1, 1, "not measured yet")

    @property
    def current(self) -> Description:
        """The engine in use."""
        return describe(self._engine)

    @property
    def ran(self) -> tuple[tuple[str, str], ...]:
        """See `StandsForEngine`."""
        return self._engine.ran if isinstance(self._engine, StandsForEngine) else ()

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`; the first call decides the plan."""
        with self._preparing:
            self._engine.prepare(batch, height, width, confidence)
            if not self._decided:
                alone = self._engine
                self._decide(height, width, confidence)
                self._decided = True
                logger.info("concurrent frames: %s", self.plan)
                if self._engine is not alone:
                    self._engine.prepare(batch, height, width, confidence)
            if self.plan.batch > 1:
                try:
                    self._engine.prepare(self.plan.batch, height, width, confidence)
                # Frames one by one are ready, whatever went wrong with more.
                except Exception as error:
                    self.refuse_batches(reason(error))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        return self._engine.infer(images, confidence)

    def release(self, height: int, width: int) -> None:
        """See `Engine.release`."""
        self._engine.release(height, width)

    def refuse_batches(self, why: str) -> None:
        """Give it single frames from now on.

        Args:
            why: in words.
        """
        if self.plan.batch > 1:
            self.plan = replace(self.plan, batch=1, why=f"{self.plan.why}; without batches: {why}")
            logger.warning("batches are not used: %s", why)

    def _decide(self, height: int, width: int, confidence: bool) -> None:
        kind = describe(self._engine)

        def build(parallel: int) -> Engine:
            engine = self._build(parallel)
            engine.prepare(1, height, width, confidence)
            other = describe(engine)
            if (other.name, other.precision) != (kind.name, kind.precision):
                raise EngineError(
                    f"for {parallel} concurrent frames it would be '{other.name}' in {other.precision}"
                )
            return engine

        try:
            plan = self._recorded(kind, height, width)
            if plan is None:
                plan, engine = self._measured(kind, height, width, confidence, build)
            else:
                engine = self._engine if plan.parallel == 1 else build(plan.parallel)
            self.plan, self._engine = plan, engine
        # The engine for one frame is ready, whatever went wrong with more.
        except Exception as error:
            self.plan = Plan(1, 1, f"several concurrent frames cannot be used: {reason(error)}")

    def _recorded(self, kind: Description, height: int, width: int) -> Plan | None:
        record = tuning.recall(self._manifest, height, width)
        tuned = [t for t in record.throughputs if (t.engine, t.precision) == (kind.name, kind.precision)]
        plan = choose(tuned, self._cameras, f"`rt_seg tune` on {record.date}")
        if plan is None:
            record = tuning.recall_start(self._manifest, height, width, kind.name, kind.precision)
            plan = choose(record.throughputs, self._cameras, f"measured at a start on {record.date}")
        return plan

    def _measured(
        self,
        kind: Description,
        height: int,
        width: int,
        confidence: bool,
        build: Callable[[int], Engine],
    ) -> tuple[Plan, Engine]:
        def one(why: str) -> tuple[Plan, Engine]:
            return Plan(1, 1, why), self._engine

        if not self._concurrent(kind.name):
            return one(f"engine '{kind.name}' works at one frame at a time")
        if cores() == 1:
            return one("the node has one processor core")
        images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        frame_s = _seconds(self._engine, images, confidence, 1, 1, self._clock, time.monotonic() + LIMIT_S)
        if frame_s is None:
            return one(f"a frame of the measurement at this start took more than {LIMIT_S:g} s")
        if frame_s > SLOWEST_S:
            return one(f"not measured, as a frame takes {frame_s:.1f} s; `rt_seg tune` measures it")
        both = {1: self._engine, 2: build(2)}
        others = Others()
        rates = measure(both, images, confidence, frame_s, self._clock)
        if rates is None:
            return one(f"two concurrent frames took more than {LIMIT_S:g} s in the measurement at this start")
        measured = [Throughput(kind.name, kind.precision, n, 1, round(rates[n], 2)) for n in both]
        origin = "measured at this start"
        if (share := others.share()) > BUSY:
            origin += f" while others took {share:.0%} of the processor, and again at the next one"
        else:
            tuning.remember_start(self._manifest, height, width, measured)
        plan = choose(measured, self._cameras, origin)
        assert plan is not None
        return plan, both[plan.parallel]


def plan_engine(
    manifest: ModelManifest,
    engine: str = "auto",
    precision: str = "auto",
    gate: Gate | None = None,
    cameras: int = 1,
) -> PlannedEngine:
    """Build an engine that decides by itself how many frames it works on concurrently.

    Args:
        manifest: see `build_engine`.
        engine: see there.
        precision: see there.
        gate: see there.
        cameras: so many frames can wait together.

    Raises:
        EngineError, ModelError: see `build_engine`.
    """
    return PlannedEngine(
        manifest, lambda parallel: build_engine(manifest, engine, precision, gate, parallel), cameras
    )


def measure(
    engines: Mapping[int, Engine],
    images: np.ndarray,
    confidence: bool,
    frame_s: float,
    clock: Clock = time.perf_counter,
) -> dict[int, float] | None:
    """Time engines in turns, each at its number of concurrent frames, for about `BUDGET_S` in all.

    Their first frames at that number do not count: libraries make more ready then.

    Args:
        engines: by that number, 1 or 2; ready for the images.
        images: one frame, uint8 (1, H, W, 3).
        confidence: whether to compute it.
        frame_s: what a frame takes about [s].
        clock: seconds that only grow.

    Returns:
        Each one's rate in its least disturbed turn [frames per second]; None where frames did not come within
        `LIMIT_S`.

    Raises:
        EngineError: one failed.
    """
    # So long a turn that starting the threads does not count.
    frames = 2 * max(1, min(16, round(TURN_S / 2 / max(frame_s, 1e-4))))
    rates = dict.fromkeys(engines, 0.0)
    deadline = time.monotonic() + LIMIT_S
    for number, engine in engines.items():
        if _seconds(engine, images, confidence, number, 1, clock, deadline) is None:
            return None
    began = clock()
    while True:
        round_began = clock()
        for number, engine in engines.items():
            seconds = _seconds(engine, images, confidence, number, frames // number, clock, deadline)
            if seconds is None:
                return None
            rates[number] = max(rates[number], frames / max(seconds, 1e-9))
        now = clock()
        if now - began + (now - round_began) > BUDGET_S:
            return rates


def _seconds(
    engine: Engine,
    images: np.ndarray,
    confidence: bool,
    parallel: int,
    frames: int,
    clock: Clock,
    deadline: float,
) -> float | None:
    """How long so many threads take for so many frames each [s]; None beyond the deadline [s, monotonic]."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(frames):
                engine.infer(images, confidence)
        except Exception as error:
            errors.append(error)

    # Daemons: a library that never comes back holds up neither the start nor the end.
    threads = [threading.Thread(target=work, name="measuring", daemon=True) for _ in range(parallel)]
    began = clock()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    took = clock() - began
    if any(thread.is_alive() for thread in threads):
        return None
    if errors:
        raise errors[0]
    return took
