"""What is loaded beside what runs: the last one asked for, once, and what was replaced leaves the memory."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import replace
from typing import Any, cast

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rt_segmentation.inference.engines import EngineError, build_engine
from rt_segmentation.inference.segmenter import Current, SegmenterConfig
from rt_segmentation.inference.sizes import Sizes
from rt_segmentation.models import ModelError, ModelManifest
from rt_segmentation.ros import switching
from rt_segmentation.ros.switching import LOOKS, MAX_LOADS, OVERDUE_S, Choice, Leaving, Loaded, Loader

PATIENCE_S = 60.0
FIRST = Choice("lednet", "torch", "fp32", 0, 0, 1)
SECOND, THIRD = replace(FIRST, model="enet"), replace(FIRST, parallel_frames=2)


class Loads:
    """Loads that take as long as the test says."""

    def __init__(self) -> None:
        self.begun: list[Choice] = []
        self.released = threading.Semaphore(0)
        self.error: Exception | None = None
        self.now = 0.0
        self.loader = Loader(self._load, lambda: self.now)

    def _load(self, choice: Choice) -> SegmenterConfig:
        self.begun.append(choice)
        assert self.released.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return cast("SegmenterConfig", f"config of {choice.model}")

    def outcome(self) -> Loaded:
        deadline = time.monotonic() + PATIENCE_S
        while (outcome := self.loader.take()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return outcome

    def wait_begun(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.begun:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def wait_idle(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.loader.is_busy:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_what_is_loaded_is_taken_once() -> None:
    loads = Loads()
    assert loads.loader.take() is None and loads.loader.loading is None
    loads.loader.ask(FIRST)
    assert loads.loader.loading == FIRST and loads.loader.is_busy
    assert loads.loader.take() is None
    loads.released.release()
    assert loads.outcome() == (FIRST, "config of lednet", "")
    assert loads.loader.take() is None and loads.loader.loading is None
    loads.wait_idle()


def test_what_needs_no_load_waits_for_none() -> None:
    loads = Loads()
    loads.loader.ask(FIRST)
    loads.wait_begun()
    loads.loader.forget()
    assert not loads.loader.is_asked
    ready = Loaded(SECOND, cast("SegmenterConfig", "ready"), "")
    loads.loader.put(ready)
    # It is asked for until it is taken, though nothing is being loaded for it.
    assert loads.loader.is_asked and loads.loader.loading is None and loads.loader.is_busy
    assert loads.loader.take() == ready
    assert not loads.loader.is_asked and loads.loader.take() is None
    loads.released.release()
    loads.wait_idle()
    assert loads.loader.take() is None and loads.begun == [FIRST]


def test_the_last_one_asked_for_wins_and_those_between_are_not_loaded() -> None:
    loads = Loads()
    for choice in (FIRST, SECOND, THIRD):
        loads.loader.ask(choice)
        while FIRST not in loads.begun:
            time.sleep(0.001)
    assert loads.loader.loading == THIRD
    for _ in range(2):
        loads.released.release()
    assert loads.outcome().choice == THIRD
    loads.wait_idle()
    assert loads.begun == [FIRST, THIRD]


def test_the_same_one_asked_for_again_is_loaded_again() -> None:
    loads = Loads()
    loads.loader.ask(FIRST)
    while not loads.begun:
        time.sleep(0.001)
    loads.loader.ask(FIRST)
    for _ in range(2):
        loads.released.release()
    assert loads.outcome().choice == FIRST
    loads.wait_idle()
    assert loads.begun == [FIRST, FIRST]


def test_a_load_that_hangs_holds_up_nothing_for_ever() -> None:
    loads = Loads()

    def begins(choice: Choice, number: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(loads.begun) < number:
            assert loads.loader.take() is None and time.monotonic() < deadline
            time.sleep(0.001)
        assert loads.begun[-1] == choice

    loads.loader.ask(FIRST)
    begins(FIRST, 1)
    # Whoever waits for it alone goes on waiting.
    loads.now += 2 * OVERDUE_S
    assert loads.loader.take() is None and loads.begun == [FIRST]
    loads.loader.ask(SECOND)
    begins(SECOND, 2)
    # The next one has its time as well, whether it is asked for before or after that.
    loads.loader.ask(THIRD)
    assert loads.loader.take() is None and len(loads.begun) == 2
    loads.now += 2 * OVERDUE_S
    begins(THIRD, 3)
    assert MAX_LOADS == 3
    loads.loader.ask(FIRST)
    loads.now += 2 * OVERDUE_S
    assert loads.loader.take() is None and loads.loader.loading == FIRST
    # All come back: one of them loads what is wanted now, and only that comes.
    for _ in range(4):
        loads.released.release()
    assert loads.outcome().choice == FIRST
    loads.wait_idle()
    assert loads.begun == [FIRST, SECOND, THIRD, FIRST]


def test_what_is_not_wanted_any_more_does_not_come() -> None:
    loads = Loads()
    loads.loader.ask(FIRST)
    loads.loader.forget()
    assert loads.loader.loading is None
    loads.released.release()
    loads.wait_idle()
    assert loads.loader.take() is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModelError("no weights"), "no weights"),
        (EngineError("no such precision"), "no such precision; it was asked for by name"),
        (MemoryError("too large"), "MemoryError: too large"),
    ],
)
def test_a_load_that_fails_says_why(error: Exception, sentence: str) -> None:
    loads = Loads()
    loads.error = error
    loads.loader.ask(FIRST)
    loads.released.release()
    choice, config, why = loads.outcome()
    assert (choice, config) == (FIRST, None)
    assert why.startswith(sentence)


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino", "auto"])
def test_an_engine_that_was_replaced_leaves_the_memory(small_model: ModelManifest, name: str) -> None:
    pytest.importorskip("torch" if name == "auto" else name)

    def made() -> SegmenterConfig:
        engine = build_engine(small_model, name, "fp32")
        config = SegmenterConfig(small_model, small_model.labels(), engine, sizes=Sizes(engine))
        config.prepare((160, 120))
        return config

    current, leaving = Current(made()), Leaving()
    old: weakref.ref[Any] = weakref.ref(current.config.engine)
    leaving.add(current.config.engine)
    leaving.update()
    assert old() is not None
    current.config = made()
    leaving.update()
    assert old() is None


def test_an_engine_that_never_leaves_is_not_looked_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(switching, "give_memory_back", lambda: looks.append(1))

    class Held:
        """Stands for an engine that somebody holds."""

    held, leaving = Held(), Leaving()
    leaving.add(cast("Any", held))
    for _ in range(3 * LOOKS):
        leaving.update()
    assert len(looks) == LOOKS
    # Its memory goes back all the same where it leaves in the end, once.
    del held
    for _ in range(3):
        leaving.update()
    assert len(looks) == LOOKS + 1
