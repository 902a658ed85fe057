"""Which size a frame is seen at while the engine for its own is being built, and what is built and let go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.inference import sizes as module
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.sizes import AMONG, KEPT, SIGHTINGS, Closed, Seen, Sizes

PATIENCE_S = 60.0
WIDE, SQUARE, STRIP = (160, 96), (96, 96), (4000, 32)


class Gated:
    """An engine whose builds end when the test says so."""

    name, precision, device = "gated", "fp32", "none"
    warnings: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.begun: list[Seen] = []
        self.released: list[tuple[int, int]] = []
        self.failing: set[tuple[int, int]] = set()
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        assert batch == 1
        self.begun.append(Seen((width, height), confidence))
        assert self.gate.wait(PATIENCE_S)
        if (width, height) in self.failing:
            raise EngineError(f"no memory for {width}x{height}")

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        raise AssertionError

    def release(self, height: int, width: int) -> None:
        self.released.append((width, height))


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture()
def engine() -> Gated:
    return Gated()


@pytest.fixture()
def sizes(engine: Gated) -> Sizes:
    return Sizes(engine)


def seen_often(sizes: Sizes, size: tuple[int, int], confidence: bool = False) -> None:
    """Until the frames of a size are seen as they should be."""
    wait_for(lambda: sizes.choose(size, confidence) == Seen(size, confidence))
    wait_for(lambda: not sizes.is_busy)


def test_the_first_size_is_built_at_once_and_its_frame_waits(engine: Gated, sizes: Sizes) -> None:
    engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Seen] = pool.submit(sizes.choose, WIDE, False)
        wait_for(lambda: bool(engine.begun))
        assert sizes.building == "building the engine for 160x96"
        assert sizes.is_busy and not waiting.done()
        engine.gate.set()
        assert waiting.result(PATIENCE_S) == Seen(WIDE, False)
    assert sizes.building == ""


def test_another_size_must_come_again_and_is_built_beside_the_frames(engine: Gated, sizes: Sizes) -> None:
    assert sizes.choose(WIDE, False) == Seen(WIDE, False)
    for _ in range(SIGHTINGS - 1):
        assert sizes.choose(SQUARE, False) == Seen(WIDE, False)
    assert engine.begun == [Seen(WIDE, False)] and sizes.building == ""
    engine.gate.clear()
    assert sizes.choose(SQUARE, False) == Seen(WIDE, False)
    wait_for(lambda: len(engine.begun) == 2)
    assert sizes.building == "building the engine for 96x96, its images are squeezed to 160x96 until then"
    # Both go on meanwhile, and it is built once.
    assert sizes.choose(WIDE, False) == sizes.choose(SQUARE, False) == Seen(WIDE, False)
    engine.gate.set()
    seen_often(sizes, SQUARE)
    assert engine.begun == [Seen(WIDE, False), Seen(SQUARE, False)]


def test_odd_sizes_are_never_built(engine: Gated, sizes: Sizes) -> None:
    sizes.choose(WIDE, False)
    for number in range(3 * AMONG):
        # Far apart from one another the same one comes more than so often.
        odd = (104 + 8 * (number // 30 % 5), 96)
        assert sizes.choose(odd if number % 30 == 0 else WIDE, False) == Seen(WIDE, False)
    assert engine.begun == [Seen(WIDE, False)]


def test_a_shape_that_is_far_from_all_is_dropped(engine: Gated, sizes: Sizes) -> None:
    sizes.choose(WIDE, False)
    engine.gate.clear()
    for number in range(SIGHTINGS):
        with pytest.raises(ImageError, match="4000x32, and no engine is ready for that shape") as dropped:
            sizes.choose(STRIP, False)
        assert dropped.value.reason == "no_engine_yet"
        assert bool(sizes.building) == (number == SIGHTINGS - 1)
    assert sizes.building == "building the engine for 4000x32, its images are dropped until then"
    engine.gate.set()
    wait_for(lambda: not sizes.is_busy)
    assert sizes.choose(STRIP, False) == Seen(STRIP, False)


def test_confidence_is_built_beside_the_frames_as_well(engine: Gated, sizes: Sizes) -> None:
    sizes.choose(WIDE, False)
    engine.gate.clear()
    assert sizes.choose(WIDE, True) == Seen(WIDE, False)
    assert sizes.building == "building the engine for 160x96 with confidence"
    engine.gate.set()
    seen_often(sizes, WIDE, confidence=True)


def test_of_several_sizes_those_that_were_used_last_stay(engine: Gated, sizes: Sizes) -> None:
    widths = [96 + 8 * number for number in range(KEPT)]
    for width in widths:
        seen_often(sizes, (width, 96))
    assert not engine.released
    sizes.choose((widths[0], 96), False)
    seen_often(sizes, (96, 160))
    assert engine.released == [(widths[1], 96)]
    engine.gate.clear()
    assert sizes.choose((widths[0], 96), False) == Seen((widths[0], 96), False)
    # The other one is as any that comes for the first time.
    assert sizes.choose((widths[1], 96), False).size != (widths[1], 96)
    engine.gate.set()


def test_a_size_that_cannot_be_built_is_told_its_frames_and_tried_again_later(
    engine: Gated, sizes: Sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.failing = {WIDE, SQUARE}
    for _ in range(3):
        with pytest.raises(EngineError, match="no memory for 160x96"):
            sizes.choose(WIDE, False)
    assert engine.begun == [Seen(WIDE, False)]
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    engine.failing = {SQUARE}
    assert sizes.choose(WIDE, False) == Seen(WIDE, False)
    monkeypatch.undo()
    for _ in range(SIGHTINGS):
        sizes.choose(SQUARE, False)
    wait_for(lambda: not sizes.is_busy)
    with pytest.raises(EngineError, match="no memory for 96x96"):
        sizes.choose(SQUARE, False)
    assert sizes.choose(WIDE, False) == Seen(WIDE, False)


def test_where_confidence_cannot_be_built_labels_go_on(engine: Gated, sizes: Sizes) -> None:
    sizes.choose(WIDE, False)
    engine.failing = {WIDE}
    sizes.choose(WIDE, True)
    wait_for(lambda: not sizes.is_busy)
    assert sizes.choose(WIDE, True) == Seen(WIDE, False)
    assert len(engine.begun) == 2


def test_closing_lets_the_frames_go_that_wait(engine: Gated, sizes: Sizes) -> None:
    engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sizes.choose, WIDE, False)
        wait_for(lambda: bool(engine.begun))
        sizes.close()
        with pytest.raises(Closed):
            waiting.result(PATIENCE_S)
        assert sizes.is_busy
        engine.gate.set()
    wait_for(lambda: not sizes.is_busy)
    sizes.open()
    assert sizes.choose(WIDE, False) == Seen(WIDE, False)
    assert len(engine.begun) == 1


def test_it_is_prepared_in_the_callers_thread_and_says_so(engine: Gated, sizes: Sizes) -> None:
    engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        preparing = pool.submit(sizes.prepare, WIDE)
        wait_for(lambda: bool(engine.begun))
        assert sizes.building == "building the engine for 160x96"
        engine.gate.set()
        preparing.result(PATIENCE_S)
    assert sizes.building == "" and sizes.choose(WIDE, False) == Seen(WIDE, False)
    assert len(engine.begun) == 1


def test_what_was_prepared_for_another_camera_shows_no_frame(engine: Gated, sizes: Sizes) -> None:
    sizes.prepare(WIDE)
    assert sizes.choose(SQUARE, False) == Seen(SQUARE, False)
    assert engine.begun == [Seen(WIDE, False), Seen(SQUARE, False)] and engine.released == [WIDE]
