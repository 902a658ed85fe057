"""How many frames an engine is given concurrently: measurements decide, and nothing holds up the start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rt_segmentation.cpu import Others
from rt_segmentation.inference import tuning
from rt_segmentation.inference.engines import EngineError, planned
from rt_segmentation.inference.engines.planned import Plan, PlannedEngine, choose, measure
from rt_segmentation.inference.tuning import Throughput, Timing
from rt_segmentation.models import ModelManifest

HEIGHT, WIDTH = 24, 32


@pytest.fixture(autouse=True)
def two_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(planned, "cores", lambda: 2)
    others(monkeypatch, 0.0)
    yield


def others(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """So much of the processor is taken by others."""
    monkeypatch.setattr(Others, "share", lambda self: share)


class Clock:
    """Goes on by what engines take."""

    def __init__(self) -> None:
        self.now = 0.0
        self._changing = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        with self._changing:
            self.now += seconds


class Fake:
    """An engine that takes the same time for each frame."""

    precision, device = "fp32", "here"
    warnings: tuple[str, ...] = ()

    def __init__(self, clock: Clock, frame_s: float, name: str = "fake") -> None:
        self.name = name
        self.frames, self.shapes = 0, set[tuple[int, ...]]()
        self.most = 99
        self._clock, self._frame_s = clock, frame_s

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        if batch > self.most:
            raise EngineError(f"no batch of {batch}")
        self.shapes.add((batch, height, width))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        self._clock.pass_by(self._frame_s)
        self.frames += 1
        return images[..., 0], None

    def release(self, height: int, width: int) -> None:
        """Nothing to let go."""


class Machine:
    """Builds the engines of one kind.

    Args:
        frame_s: by concurrent frames, the time from one frame's end to the next one's [s].
    """

    def __init__(self, model: ModelManifest, frame_s: dict[int, float]) -> None:
        self.clock, self.built = Clock(), dict[int, Fake]()
        self._model, self._frame_s = model, frame_s

    def build(self, parallel: int) -> Fake:
        self.built[parallel] = Fake(self.clock, self._frame_s[parallel])
        return self.built[parallel]

    def engine(
        self, cameras: int = 1, concurrent: Callable[[str], bool] = lambda name: True
    ) -> PlannedEngine:
        return PlannedEngine(self._model, self.build, cameras, concurrent, self.clock)

    def prepared(self, cameras: int = 1) -> PlannedEngine:
        engine = self.engine(cameras)
        engine.prepare(1, HEIGHT, WIDTH)
        return engine


def test_two_at_once_are_used_where_they_give_more(small_model: ModelManifest) -> None:
    machine = Machine(small_model, {1: 0.02, 2: 0.0125})
    engine = machine.engine()
    assert engine.plan == Plan(1, 1, "not measured yet")
    engine.prepare(1, HEIGHT, WIDTH)
    assert (engine.plan.parallel, engine.plan.batch) == (2, 1)
    assert engine.plan.why == (
        "2 concurrently 80.0 frames per second, one at a time 50.0 (measured at this start)"
    )
    # Well under a second in all, and in turns.
    assert machine.clock.now < 1.0
    assert machine.built[1].frames > 4 and machine.built[2].frames > 4
    before = machine.built[2].frames
    engine.infer(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), False)
    assert machine.built[2].frames == before + 1
    # Other sizes follow it without a measurement.
    before = machine.built[1].frames
    engine.prepare(1, 48, 64)
    assert machine.built[1].frames == before and (1, 48, 64) in machine.built[2].shapes


def test_a_gain_that_is_not_worth_the_latency_is_left(small_model: ModelManifest) -> None:
    machine = Machine(small_model, {1: 0.02, 2: 0.0195})
    engine = machine.prepared()
    assert str(engine.plan) == (
        "1: 2 concurrently 51.3 frames per second, one at a time 50.0 (measured at this start);"
        " more than one needs 1.2 times the rate"
    )
    before = machine.built[1].frames
    engine.infer(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), False)
    assert machine.built[1].frames == before + 1


def test_several_cameras_need_less_of_a_gain(small_model: ModelManifest) -> None:
    """Their frames wait for each other, one at a time as well."""
    for rate, alone, together in ((52.0, 1, 1), (53.0, 1, 2), (59.0, 1, 2), (61.0, 2, 2)):
        throughputs = [Throughput("fake", "fp32", *how) for how in ((1, 1, 50.0), (2, 1, rate))]
        tuning.remember(small_model, HEIGHT, WIDTH, [Timing("fake", "fp32", 20.0)], throughputs)
        for cameras, parallel in ((1, alone), (2, together), (4, together)):
            machine = Machine(small_model, {1: 0.02, 2: 0.02})
            assert machine.prepared(cameras).plan.parallel == parallel
    measured = [Throughput("fake", "fp32", *how) for how in ((1, 1, 50.0), (2, 1, 52.0))]
    assert str(choose(measured, 2, "x")).endswith("more than one needs 1.05 times the rate")


def test_the_next_start_measures_nothing(small_model: ModelManifest) -> None:
    Machine(small_model, {1: 0.02, 2: 0.01}).prepared()
    again = Machine(small_model, {1: 0.02, 2: 0.01})
    plan = again.prepared().plan
    assert plan.parallel == 2 and "measured at a start on 20" in plan.why
    assert again.clock.now == 0.0
    # One that was measured to be as good alone builds nothing for more.
    slow = Machine(small_model, {1: 0.02, 2: 0.02})
    slow_engine = slow.engine()
    slow_engine.prepare(1, 48, 64)
    slow = Machine(small_model, {1: 0.02, 2: 0.02})
    slow_engine = slow.engine()
    slow_engine.prepare(1, 48, 64)
    assert slow_engine.plan.parallel == 1 and set(slow.built) == {1}


def test_a_measurement_on_a_busy_machine_is_not_kept(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    others(monkeypatch, 0.63)
    engine = Machine(small_model, {1: 0.02, 2: 0.02}).prepared()
    assert engine.plan.parallel == 1
    assert "while others took 63% of the processor, and again at the next one" in engine.plan.why
    others(monkeypatch, planned.BUSY)
    plan = Machine(small_model, {1: 0.02, 2: 0.01}).prepared().plan
    assert plan.parallel == 2 and plan.why.endswith("(measured at this start)")
    assert "measured at a start on 20" in Machine(small_model, {1: 0.02, 2: 0.01}).prepared().plan.why


def test_what_rt_seg_tune_measured_goes_first(small_model: ModelManifest) -> None:
    throughputs = [
        Throughput("fake", "fp32", parallel, batch, rate)
        for parallel, batch, rate in ((1, 1, 50.0), (2, 1, 52.0), (1, 2, 70.0), (1, 4, 90.0))
    ]
    tuning.remember(small_model, HEIGHT, WIDTH, [Timing("fake", "fp32", 20.0)], throughputs)
    for cameras, batch in ((1, 1), (2, 2), (3, 2), (4, 4)):
        machine = Machine(small_model, {1: 0.02})
        engine = machine.prepared(cameras)
        assert (engine.plan.parallel, engine.plan.batch) == (1, batch)
        assert "`rt_seg tune` on 20" in engine.plan.why
        # Built for batches before the first one comes.
        assert machine.built[1].shapes == {(1, HEIGHT, WIDTH), (batch, HEIGHT, WIDTH)}
        assert machine.clock.now == 0.0


def test_measurements_of_another_engine_say_nothing(small_model: ModelManifest) -> None:
    throughputs = [Throughput("other", "fp32", n, 1, 10.0 * n) for n in (1, 2)]
    tuning.remember(small_model, HEIGHT, WIDTH, [Timing("other", "fp32", 20.0)], throughputs)
    assert "measured at this start" in Machine(small_model, {1: 0.02, 2: 0.01}).prepared().plan.why


def test_an_engine_that_refuses_batches_goes_on_with_single_frames(small_model: ModelManifest) -> None:
    throughputs = [Throughput("fake", "fp32", 1, batch, 50.0 * batch) for batch in (1, 2)]
    tuning.remember(small_model, HEIGHT, WIDTH, [Timing("fake", "fp32", 20.0)], throughputs)
    machine = Machine(small_model, {1: 0.02})
    engine = machine.engine(cameras=2)
    machine.built[1].most = 1
    engine.prepare(1, HEIGHT, WIDTH)
    assert engine.plan.batch == 1 and engine.plan.why.endswith("; without batches: no batch of 2")


def test_an_engine_that_fails_at_batches_in_a_way_of_its_own_goes_on(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    throughputs = [Throughput("fake", "fp32", 1, batch, 50.0 * batch) for batch in (1, 2)]
    tuning.remember(small_model, HEIGHT, WIDTH, [Timing("fake", "fp32", 20.0)], throughputs)
    machine = Machine(small_model, {1: 0.02})
    engine = machine.engine(cameras=2)

    def prepare(batch: int, *_: object) -> None:
        if batch > 1:
            raise ValueError("one at a time")

    monkeypatch.setattr(machine.built[1], "prepare", prepare)
    for _ in range(2):
        engine.prepare(1, HEIGHT, WIDTH)
    assert engine.plan.batch == 1 and "one at a time" in engine.plan.why
    # Said once.
    assert caplog.text.count("batches are not used") == 1


def test_an_engine_that_cannot_work_at_two_is_not_asked_to(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(small_model, {1: 0.02})
    engine = machine.engine(concurrent=lambda name: False)
    engine.prepare(1, HEIGHT, WIDTH)
    assert str(engine.plan) == "1: engine 'fake' works at one frame at a time"
    monkeypatch.setattr(planned, "cores", lambda: 1)
    assert Machine(small_model, {1: 0.02}).prepared().plan.why == "the node has one processor core"


def test_a_slow_engine_does_not_hold_up_the_start(small_model: ModelManifest) -> None:
    machine = Machine(small_model, {1: 0.9})
    plan = machine.prepared().plan
    assert plan == Plan(1, 1, "not measured, as a frame takes 0.9 s; `rt_seg tune` measures it")
    assert machine.built[1].frames == 1


@pytest.mark.parametrize("hanging", [1, 2])
def test_an_engine_that_hangs_does_not_hold_up_the_start(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, hanging: int
) -> None:
    monkeypatch.setattr(planned, "LIMIT_S", 0.05)
    released = threading.Event()
    machine = Machine(small_model, {1: 0.02, 2: 0.01})
    build = machine.build

    def hung(parallel: int) -> Fake:
        engine = build(parallel)
        if parallel == hanging:
            monkeypatch.setattr(engine, "infer", lambda *_: released.wait(60))
        return engine

    monkeypatch.setattr(machine, "build", hung)
    plan = machine.prepared().plan
    released.set()
    assert plan.parallel == 1 and "took more than 0.05 s" in plan.why


def test_what_fails_with_two_leaves_the_one_alone(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(small_model, {1: 0.02})
    plan = machine.prepared().plan
    assert plan.parallel == 1 and plan.why.startswith("several concurrent frames cannot be used: ")

    machine = Machine(small_model, {1: 0.02, 2: 0.01})
    build = machine.build

    def other(parallel: int) -> Fake:
        engine = build(parallel)
        engine.name = "fake" if parallel == 1 else "next"
        return engine

    monkeypatch.setattr(machine, "build", other)
    assert machine.prepared().plan.why == (
        "several concurrent frames cannot be used: for 2 concurrent frames it would be 'next' in fp32"
    )


def test_an_engine_that_does_not_work_at_all_says_so(small_model: ModelManifest) -> None:
    machine = Machine(small_model, {1: 0.02})
    engine = machine.engine()
    machine.built[1].most = 0
    with pytest.raises(EngineError, match="no batch of 1"):
        engine.prepare(1, HEIGHT, WIDTH)
    # Asked again it may work, and decides then.
    machine.built[1].most = 1
    engine.prepare(1, HEIGHT, WIDTH)
    assert engine.plan.why != "not measured yet"


def test_a_choice_needs_the_rate_of_one_frame_at_a_time() -> None:
    assert choose([], 4, "x") is None
    assert choose([Throughput("e", "p", 1, 1, 10.0)], 4, "x") is None
    assert choose([Throughput("e", "p", 2, 1, 10.0)], 4, "x") is None


def test_the_first_frames_at_once_and_a_disturbed_turn_do_not_count() -> None:
    clock = Clock()
    engines = {1: Fake(clock, 0.02), 2: Fake(clock, 0.01)}
    fast = engines[2].infer

    def slow_at_first(images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        clock.pass_by(1.0 if engines[2].frames < 2 else 0.1 if engines[2].frames == 7 else 0.0)
        return fast(images, confidence)

    engines[2].infer = slow_at_first  # type: ignore[method-assign]
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    assert measure(engines, image, False, 0.02, clock) == pytest.approx({1: 50.0, 2: 100.0})


def test_turns_are_long_enough_and_few_for_slow_frames() -> None:
    clock = Clock()
    engines = {1: Fake(clock, 0.001), 2: Fake(clock, 0.0005)}
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    rates = measure(engines, image, False, 0.001, clock)
    assert rates == pytest.approx({1: 1000.0, 2: 2000.0}) and clock.now < planned.BUDGET_S
    clock = Clock()
    engines = {1: Fake(clock, 0.4), 2: Fake(clock, 0.4)}
    assert measure(engines, image, False, 0.4, clock) is not None
    assert (engines[1].frames, engines[2].frames) == (3, 4)
