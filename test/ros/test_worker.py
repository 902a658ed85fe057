"""The worker's threads: what overlaps, what keeps its order, and that every frame is accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from builtin_interfaces.msg import Time  # type: ignore[import-untyped]
from rclpy.logging import get_logger
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.placement import place
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.segmenter import Segmentation, Segmenter, SizesDiffer
from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.camera import Camera
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.worker import Worker
from rt_segmentation.runtime.statistics import StreamStatistics

PATIENCE_S = 60.0
LABELS = np.zeros((48, 64), np.uint8)
LABEL_SET = load_label_set("camvid11")
PLACEMENT = place((64, 48), (64, 48))


def nothing(number: int) -> None:
    pass


@dataclass(eq=False)
class PartOfCamera:
    """What the worker needs of a camera."""

    outputs: Any
    statistics: StreamStatistics
    name: str = ""
    failure: str = ""
    size: tuple[int, int] | None = None


class Pipeline:
    """A worker between an engine and topics that do what the test says; frames are known by their number."""

    def __init__(
        self, infer: Callable[[int], None], publish: Callable[[int], None], parallel: int = 1
    ) -> None:
        self.statistics = StreamStatistics()
        self.published: list[int] = []

        def infer_frames(
            frames: Sequence[Frame], confidence: bool, sources: Sequence[str]
        ) -> list[Segmentation]:
            infer(frames[0].stamp_ns // 10**9)
            return [Segmentation(frames[0], LABEL_SET, LABELS, None, LABELS, PLACEMENT, 0.0, 0.0)]

        def publish_frame(header: Header, *_: Any) -> float:
            publish(header.stamp.sec)
            self.published.append(header.stamp.sec)
            return 1.0

        self.config = SimpleNamespace(engine="the first")
        segmenter = SimpleNamespace(infer=infer_frames, batch=1, config=self.config)
        outputs = SimpleNamespace(listened=lambda _: False, resize=lambda r: r, publish=publish_frame)
        parameters = {"overlay_opacity": 0.5, "jpeg_quality": 90}
        self._camera = cast("Camera", PartOfCamera(outputs, self.statistics))
        self.worker = Worker(
            [cast("Segmenter", segmenter)] * parallel, get_logger("worker"), parameters.__getitem__
        )

    def hand_over(self, number: int) -> None:
        header = Header(stamp=Time(sec=number))
        self.statistics.frame_received()
        self.worker.hand_over(self._camera, cast("Image", image_message(header, LABELS, "mono8")))


def test_a_frame_is_published_while_the_next_one_is_inferred() -> None:
    begun = {number: threading.Event() for number in (1, 2)}

    def publish(number: int) -> None:
        # The first is not out before the second is at work.
        assert begun[2].wait(PATIENCE_S)

    pipeline = Pipeline(lambda number: begun[number].set(), publish)
    pipeline.hand_over(1)
    assert begun[1].wait(PATIENCE_S)
    pipeline.hand_over(2)
    assert begun[2].wait(PATIENCE_S)
    assert pipeline.worker.stop(None)
    assert pipeline.published == [1, 2]


def test_a_slow_subscriber_makes_no_queue() -> None:
    begun = {number: threading.Event() for number in range(1, 6)}
    released = threading.Event()

    def publish(number: int) -> None:
        assert released.wait(PATIENCE_S)

    pipeline = Pipeline(lambda number: begun[number].set(), publish)
    for number in (1, 2):
        pipeline.hand_over(number)
        assert begun[number].wait(PATIENCE_S)
    # One is being published and one is inferred: of these only the newest will be.
    for number in (3, 4, 5):
        pipeline.hand_over(number)
    assert not begun[3].is_set()
    released.set()
    assert begun[5].wait(PATIENCE_S)
    assert pipeline.worker.stop(None)
    assert pipeline.published == [1, 2, 5]
    now = pipeline.statistics.snapshot()
    assert (now.received, now.published, now.dropped) == (5, 3, {"replaced": 2})


@pytest.mark.parametrize("stage", ["infer", "publish"])
def test_a_frame_that_fails_is_counted_and_the_next_has_its_turn(stage: str) -> None:
    done = threading.Event()

    def fail(number: int) -> None:
        if number == 1:
            done.set()
            raise RuntimeError("out of luck")

    pipeline = Pipeline(fail if stage == "infer" else nothing, fail if stage == "publish" else nothing)
    pipeline.hand_over(1)
    assert done.wait(PATIENCE_S)
    done.clear()
    pipeline.hand_over(2)
    while pipeline.statistics.snapshot().published == 0:
        done.wait(0.01)
    assert pipeline.worker.stop(None)
    assert pipeline.published == [2]
    now = pipeline.statistics.snapshot()
    assert (now.received, now.published, now.dropped) == (2, 1, {"failed": 1})


def test_stopping_finishes_what_is_begun_unless_that_takes_too_long() -> None:
    begun, released = threading.Event(), threading.Event()

    def infer(number: int) -> None:
        begun.set()
        assert released.wait(PATIENCE_S)

    pipeline = Pipeline(infer, nothing)
    pipeline.hand_over(1)
    assert begun.wait(PATIENCE_S)
    pipeline.hand_over(2)
    assert not pipeline.worker.stop(0.05)
    assert pipeline.statistics.snapshot().dropped == {"deactivated": 1}
    released.set()
    assert pipeline.worker.stop(None)
    assert pipeline.published == [1]


def test_frames_inferred_at_once_are_published_in_their_order() -> None:
    begun = {number: threading.Event() for number in (1, 2, 3)}
    released = {number: threading.Event() for number in (1, 2, 3)}

    def infer(number: int) -> None:
        begun[number].set()
        assert released[number].wait(PATIENCE_S)

    pipeline = Pipeline(infer, nothing, parallel=2)
    for number in (1, 2):
        pipeline.hand_over(number)
        assert begun[number].wait(PATIENCE_S)
    # Both segmenters are busy: the third frame waits, and would be replaced by a fourth.
    pipeline.hand_over(3)
    released[2].set()
    assert not begun[3].wait(0.1)
    assert pipeline.published == []
    released[1].set()
    assert begun[3].wait(PATIENCE_S)
    released[3].set()
    assert pipeline.worker.stop(None)
    assert pipeline.published == [1, 2, 3]


def test_of_frames_inferred_at_once_one_that_fails_holds_up_no_other() -> None:
    begun = {number: threading.Event() for number in (1, 2)}

    def infer(number: int) -> None:
        begun[number].set()
        assert begun[2].wait(PATIENCE_S)
        if number == 1:
            raise RuntimeError("out of luck")

    pipeline = Pipeline(infer, nothing, parallel=2)
    for number in (1, 2):
        pipeline.hand_over(number)
        assert begun[number].wait(PATIENCE_S)
    assert pipeline.worker.stop(None)
    assert pipeline.published == [2]
    assert pipeline.statistics.snapshot().dropped == {"failed": 1}


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_worker_that_is_given_up_loses_what_it_had_and_counts_each_once(parallel: int) -> None:
    begun = {number: threading.Event() for number in (1, 2)}
    released = threading.Event()

    def infer(number: int) -> None:
        begun[number].set()
        assert released.wait(PATIENCE_S)
        if number == 2:
            raise RuntimeError("out of luck, and late")

    pipeline = Pipeline(infer, nothing, parallel)
    for number in range(1, parallel + 1):
        pipeline.hand_over(number)
        assert begun[number].wait(PATIENCE_S)
    # One waits for its turn.
    pipeline.hand_over(3)
    assert pipeline.worker.stalled_s(is_excused=False) == 0.0
    assert pipeline.worker.stalled_s(is_excused=False) > 0.0
    # Of whatever has taken its place meanwhile nothing is said.
    pipeline.config.engine = "the second"
    assert cast("str", pipeline.worker.stalled) == "the first"
    assert pipeline.worker.give_up() == parallel + 1
    pipeline.hand_over(4)
    released.set()
    assert pipeline.worker.stop(PATIENCE_S)
    assert pipeline.published == []
    now = pipeline.statistics.snapshot()
    assert (now.received, now.published) == (parallel + 2, 0)
    assert now.dropped == {"hung": parallel + 1, "replaced": 1}


@pytest.mark.parametrize("parallel", [1, 3])
def test_every_frame_that_came_is_published_or_dropped_by_its_reason(parallel: int) -> None:
    def sometimes(fails: int) -> Callable[[int], None]:
        def step(number: int) -> None:
            if number % fails == 0:
                raise RuntimeError("out of luck")

        return step

    pipeline = Pipeline(sometimes(5), sometimes(7), parallel)
    pipeline.hand_over(1)
    # The flood below replaces nearly all frames: alone it may leave only one whose number fails.
    while pipeline.statistics.snapshot().published == 0:
        time.sleep(0.001)
    for number in range(2, 2001):
        pipeline.hand_over(number)
    assert pipeline.worker.stop(None)
    pipeline.hand_over(2001)
    now = pipeline.statistics.snapshot()
    assert now.received == 2001 == now.published + sum(now.dropped.values())
    assert now.published == len(pipeline.published) > 0
    assert pipeline.published == sorted(pipeline.published)


class Batches:
    """A worker of three cameras whose segmenter takes batches of two, and notes what it gets."""

    def __init__(self, refuses: Exception | None = None, bad: str = "") -> None:
        self.calls: list[list[str]] = []
        self.published: list[tuple[str, int]] = []
        self.refused: list[str] = []
        self.held, self.begun = threading.Event(), threading.Event()
        self._refuses, self._bad = refuses, bad
        self.config = SimpleNamespace(engine="the first")
        self._segmenter = SimpleNamespace(
            infer=self._infer, batch=2, refuse_batches=self._refuse, config=self.config
        )
        self.cameras = {name: self._camera(name) for name in ("a", "b", "c")}
        self.worker = Worker([cast("Segmenter", self._segmenter)], get_logger("worker"), lambda _: "auto")

    def _camera(self, name: str) -> Camera:
        def publish(header: Header, *_: Any) -> float:
            self.published.append((name, header.stamp.sec))
            return 1.0

        outputs = SimpleNamespace(listened=lambda _: False, resize=lambda r: r, publish=publish)
        return cast("Camera", PartOfCamera(outputs, StreamStatistics(), name))

    def _refuse(self, why: str) -> None:
        self.refused.append(why)
        self._segmenter.batch = 1

    def _infer(self, frames: Sequence[Frame], _: bool, sources: Sequence[str]) -> list[Segmentation]:
        self.calls.append(list(sources))
        self.begun.set()
        assert self.held.wait(PATIENCE_S)
        if len(frames) > 1 and self._refuses is not None:
            raise self._refuses
        if self._bad in sources:
            raise RuntimeError("out of luck")
        return [Segmentation(f, LABEL_SET, LABELS, None, LABELS, PLACEMENT, 0.0, 0.0) for f in frames]

    def hand_over(self, name: str, number: int) -> None:
        header = Header(stamp=Time(sec=number))
        self.cameras[name].statistics.frame_received()
        self.worker.hand_over(self.cameras[name], cast("Image", image_message(header, LABELS, "mono8")))

    def play(self) -> None:
        """The first frame is at work while one of each camera comes; then the same once more."""
        for number in (1, 2):
            self.begun.clear()
            self.held.clear()
            self.hand_over("a", 10 * number)
            assert self.begun.wait(PATIENCE_S)
            for name in self.cameras:
                self.hand_over(name, 10 * number + 1)
            self.held.set()
            while sum(self._settled().values()) < 4 * number:
                threading.Event().wait(0.001)
        assert self.worker.stop(None)

    def _settled(self) -> dict[str, int]:
        now = {name: camera.statistics.snapshot() for name, camera in self.cameras.items()}
        return {name: s.published + sum(s.dropped.values()) for name, s in now.items()}


def test_frames_of_several_cameras_that_wait_together_are_one_batch() -> None:
    batches = Batches()
    batches.play()
    assert batches.calls == [["a"], ["b", "c"], ["a"]] * 2
    assert batches.published == [
        *(("a", 10), ("b", 11), ("c", 11), ("a", 11)),
        *(("a", 20), ("b", 21), ("c", 21), ("a", 21)),
    ]


@pytest.mark.parametrize("kind", [EngineError, ValueError])
def test_an_engine_that_refuses_a_batch_gets_single_frames(kind: type[Exception]) -> None:
    batches = Batches(refuses=kind("no batches here"))
    batches.play()
    assert batches.calls == [["a"], ["b", "c"], ["b"], ["c"], ["a"], ["a"], ["b"], ["c"], ["a"]]
    assert batches.refused == [f"{kind.__name__}: no batches here"]
    assert len(batches.published) == 8


@pytest.mark.parametrize("why", [SizesDiffer("several sizes"), ImageError("bad_roi", "beyond the image")])
def test_frames_of_other_sizes_are_no_batch_and_no_fault(why: Exception) -> None:
    batches = Batches(refuses=why)
    batches.play()
    assert batches.refused == [] and len(batches.published) == 8


def test_an_engine_that_fails_at_each_frame_has_not_refused_batches() -> None:
    batches = Batches()

    def fail(frames: Sequence[Frame], _: bool, sources: Sequence[str]) -> Any:
        batches.calls.append(list(sources))
        batches.begun.set()
        assert batches.held.wait(PATIENCE_S)
        raise RuntimeError("the device is gone")

    batches._segmenter.infer = fail
    batches.play()
    assert batches.refused == [] and batches.calls == [["a"], ["b", "c"], ["b"], ["c"], ["a"]] * 2
    assert sum(c.statistics.snapshot().dropped["failed"] for c in batches.cameras.values()) == 8


def test_each_frame_of_a_batch_that_is_refused_has_the_time_of_one() -> None:
    batches = Batches(refuses=EngineError("no batches here"))
    at_work, go_on = threading.Semaphore(0), threading.Semaphore(0)
    infer = batches._segmenter.infer

    def slowly(*arguments: Any) -> Any:
        at_work.release()
        assert go_on.acquire(timeout=PATIENCE_S)
        return infer(*arguments)

    batches._segmenter.infer = slowly
    batches.held.set()
    batches.hand_over("a", 1)
    assert at_work.acquire(timeout=PATIENCE_S)
    for name in ("b", "c"):
        batches.hand_over(name, 1)
    # The first, the batch, and both of its frames: none is as old as all together.
    for _ in range(4):
        assert batches.worker.stalled_s(is_excused=False) == 0.0
        go_on.release()
        if len(batches.calls) < 4:
            at_work.acquire(timeout=0.2)
    assert batches.worker.stop(PATIENCE_S)
    assert batches.calls == [["a"], ["b", "c"], ["b"], ["c"]]


def test_of_a_batch_the_frame_that_fails_is_the_only_one_lost() -> None:
    batches = Batches(bad="b")
    batches.play()
    assert {name: c.statistics.snapshot().dropped for name, c in batches.cameras.items()} == {
        "a": {},
        "b": {"failed": 2},
        "c": {},
    }


def test_a_batch_that_fails_late_is_no_fault_of_the_engine_that_came_after() -> None:
    batches = Batches(refuses=EngineError("no batches here"))
    infer = batches._segmenter.infer

    def swapped_meanwhile(frames: Sequence[Frame], confidence: bool, sources: Sequence[str]) -> Any:
        if len(frames) > 1:
            batches.config.engine = "the second"
            assert batches.worker.give_up() == 2
        return infer(frames, confidence, sources)

    batches._segmenter.infer = swapped_meanwhile
    batches._segmenter.batch = 1
    batches.hand_over("a", 1)
    assert batches.begun.wait(PATIENCE_S)
    batches._segmenter.batch = 2
    batches.hand_over("b", 2)
    batches.hand_over("c", 2)
    batches.held.set()
    while len(batches.calls) < 2:
        threading.Event().wait(0.001)
    assert batches.worker.stop(None)
    # Nothing more is asked of it, as both frames are counted.
    assert batches.calls == [["a"], ["b", "c"]] and batches.refused == []
    assert [c.statistics.snapshot().dropped for c in batches.cameras.values()] == [
        {},
        {"hung": 1},
        {"hung": 1},
    ]
