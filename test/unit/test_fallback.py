"""What the automatic choice of an engine survives: failures that pass, and those of one size alone."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rt_segmentation.inference.engines import Description, EngineError, fallback, in_words, what_ran
from rt_segmentation.inference.engines.fallback import Candidate, FallbackEngine

PATIENCE_S = 60.0
SMALL, LARGE = np.zeros((1, 32, 64, 3), np.uint8), np.zeros((1, 64, 128, 3), np.uint8)


class Fragile:
    """An engine that cannot be compiled for some widths for now."""

    device = "here"
    warnings: tuple[str, ...] = ()

    def __init__(self, name: str, precision: str) -> None:
        self.name, self.precision = name, precision
        self.failing: set[int] = set()
        self.compiled: list[int] = []
        self.most = 8
        self._ready: set[tuple[int, int, bool]] = set()

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        if (batch, width, confidence) in self._ready:
            return
        self.compiled.append(width)
        if width in self.failing or batch > self.most:
            raise EngineError(f"engine '{self.name}' has no memory")
        self._ready.add((batch, width, confidence))

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        batch, height, width = images.shape[:3]
        self.prepare(batch, height, width, confidence)
        return images[..., 0], None

    def release(self, height: int, width: int) -> None:
        self._ready = {ready for ready in self._ready if ready[1] != width}


class Pair:
    """Two such engines in an order and a clock; `_build` fails where `broken` has the name."""

    def __init__(self) -> None:
        self.first, self.second = Fragile("first", "fp32"), Fragile("second", "fp32")
        self.broken: set[str] = set()
        self.now = 0.0
        self.engine = FallbackEngine(
            lambda: (Candidate(name, "fp32") for name in ("first", "second")),
            self._build,
            clock=lambda: self.now,
        )

    def _build(self, name: str, precision: str) -> Fragile:
        if name in self.broken:
            raise EngineError(f"engine '{name}' cannot be read")
        return {"first": self.first, "second": self.second}[name]


@pytest.fixture()
def pair() -> Pair:
    return Pair()


def test_a_failure_at_one_size_is_of_that_size(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.first.failing = {128}
    pair.engine.infer(SMALL, False)
    pair.engine.infer(LARGE, False)
    assert pair.engine.name == "second" and pair.second.compiled == [128]
    (warned,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "engine 'first' has no memory" in warned.getMessage()
    assert pair.engine.warnings == ("engine 'first' has no memory",)
    pair.engine.infer(SMALL, False)
    pair.engine.prepare(1, 16, 32)
    assert pair.engine.name == "first"
    assert pair.first.compiled == [64, 128, 32] and pair.second.compiled == [128]


def test_a_report_names_all_that_answered(pair: Pair) -> None:
    """Not the one in use alone: frames of each shape have the engine that is good for it."""
    assert what_ran(pair.engine) == ("first", "fp32")
    pair.first.failing = {128}
    pair.engine.prepare(1, 32, 128)
    pair.engine.infer(SMALL, False)
    assert what_ran(pair.engine) == ("first", "fp32")
    pair.engine.infer(LARGE, False)
    pair.engine.infer(SMALL, False)
    assert what_ran(pair.engine) == ("first, second", "fp32, fp32")
    assert in_words(*what_ran(pair.engine)) == "first fp32 and second fp32"
    assert what_ran(pair.second) == ("second", "fp32")


def test_a_failure_is_of_the_whole_shape(pair: Pair) -> None:
    """A batch of four may need memory that one does not; so may confidence."""
    pair.first.most = 2
    pair.engine.infer(np.zeros((4, 32, 64, 3), np.uint8), False)
    assert pair.engine.current == Description("second", "fp32", "here", ("engine 'first' has no memory",))
    pair.engine.infer(SMALL, False)
    pair.engine.infer(SMALL, True)
    assert pair.engine.name == "first" and pair.second.compiled == [64]
    # It is told for as long as such frames come, beside those that the first is good for.
    assert pair.engine.warnings == ("engine 'first' has no memory",)
    pair.engine.release(32, 64)
    assert pair.engine.current == Description("first", "fp32", "here", ())


def test_where_none_is_left_frames_fail_at_once_and_later_all_are_tried_again(pair: Pair) -> None:
    pair.engine.infer(SMALL, False)
    pair.first.failing = pair.second.failing = {128}
    for _ in range(3):
        pair.now += fallback.RETRY_S / 4
        with pytest.raises(EngineError, match=r"'first' has no memory; .*'second' has no memory; .* 30 s"):
            pair.engine.infer(LARGE, False)
    assert pair.first.compiled == [64, 128] and pair.second.compiled == [128]
    assert [sentence.split()[1] for sentence in pair.engine.warnings] == ["'first'", "'second'"]
    # What ran goes on running.
    pair.engine.infer(SMALL, False)
    pair.now += fallback.RETRY_S
    pair.first.failing = set()
    pair.engine.infer(LARGE, False)
    assert pair.engine.name == "first" and pair.first.compiled == [64, 128, 128]
    assert not pair.engine.warnings


def test_one_that_could_not_be_built_is_tried_again_as_well(pair: Pair) -> None:
    pair.first.failing = {128}
    pair.broken = {"second"}
    with pytest.raises(EngineError, match="'second' cannot be read"):
        pair.engine.infer(LARGE, False)
    pair.now += fallback.RETRY_S
    pair.broken = set()
    pair.engine.infer(LARGE, False)
    assert pair.engine.name == "second"
    assert pair.engine.warnings == ("engine 'first' has no memory",)


def test_a_stand_in_stays(pair: Pair) -> None:
    pair.first.failing = {128}
    for _ in range(3):
        pair.now += fallback.RETRY_S
        pair.engine.infer(LARGE, False)
    # To compile the first again would hold frames up that the second is good for.
    assert pair.engine.name == "second" and pair.first.compiled == [128]


def test_what_was_refused_at_an_odd_size_is_told_while_its_frames_come(pair: Pair) -> None:
    pair.engine.infer(SMALL, False)
    pair.first.failing = {128}
    pair.engine.infer(LARGE, False)
    for _ in range(fallback.IN_USE):
        assert pair.engine.warnings == ("engine 'first' has no memory",)
        pair.engine.infer(SMALL, False)
    assert "engine 'first' has no memory" not in pair.engine.warnings
    pair.engine.infer(LARGE, False)
    assert pair.engine.warnings == ("engine 'first' has no memory",)


def test_a_size_that_is_let_go_begins_anew(pair: Pair) -> None:
    pair.first.failing = {128}
    pair.engine.infer(LARGE, False)
    assert pair.first.compiled == pair.second.compiled == [128]
    pair.engine.release(*LARGE.shape[1:3])
    assert not pair.engine.warnings
    pair.first.failing = set()
    pair.engine.infer(LARGE, False)
    assert pair.engine.name == "first"
    assert (pair.first.compiled, pair.second.compiled) == ([128, 128], [128])


def test_frames_of_a_size_that_is_ready_pass_while_another_is_chosen() -> None:
    building, released = threading.Event(), threading.Event()
    ready = Fragile("ready", "fp32")
    ready.failing = {128}

    def build(name: str, precision: str) -> Fragile:
        if name == "slow":
            building.set()
            assert released.wait(PATIENCE_S)
            return Fragile(name, precision)
        return ready

    engine = FallbackEngine(lambda: (Candidate(name, "fp32") for name in ("ready", "slow")), build)
    engine.infer(SMALL, False)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(engine.infer, LARGE, False)
        assert building.wait(PATIENCE_S)
        # In this thread: each would wait for the build.
        engine.infer(SMALL, False)
        assert engine.warnings == ("engine 'ready' has no memory",)
        assert not other.done()
        released.set()
        other.result(PATIENCE_S)
    assert engine.name == "slow"
