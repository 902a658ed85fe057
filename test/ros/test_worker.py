"""The worker's threads: what overlaps, what keeps its order, and that every frame is accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from builtin_interfaces.msg import Time  # type: ignore[import-untyped]
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.worker_parts import LABELS, PATIENCE_S, PartOfCamera, answer

from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmentation, Segmenter
from rt_segmentation.ros.camera import Camera
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.worker import Worker
from rt_segmentation.runtime.statistics import StreamStatistics


def nothing(number: int) -> None:
    pass


class Pipeline:
    """A worker between an engine and topics that do what the test says; frames are known by their number."""

    def __init__(
        self, infer: Callable[[int], None], publish: Callable[[int], None], parallel: int = 1
    ) -> None:
        self.statistics = StreamStatistics()
        self.published: list[int] = []

        def infer_frames(
            frames: Sequence[Frame], confidence: bool, sources: Sequence[str], *, kept: bool
        ) -> list[Segmentation]:
            infer(frames[0].stamp_ns // 10**9)
            return [answer(frames[0])]

        def publish_frame(header: Header, *_: Any) -> float:
            publish(header.stamp.sec)
            self.published.append(header.stamp.sec)
            return 1.0

        self.config = SimpleNamespace(engine="the first")
        segmenter = SimpleNamespace(infer=infer_frames, batch=1, config=self.config)
        outputs = SimpleNamespace(listened=lambda _: False, resize=lambda r: r, publish=publish_frame)
        parameters = {"overlay_opacity": 0.5, "jpeg_quality": 90}
        self.camera = PartOfCamera(outputs, self.statistics)
        self.worker = Worker([cast("Segmenter", segmenter)] * parallel, parameters.__getitem__)

    def hand_over(self, number: int) -> None:
        header = Header(stamp=Time(sec=number))
        self.statistics.frame_received()
        self.worker.hand_over(
            cast("Camera", self.camera), cast("Image", image_message(header, LABELS, "mono8"))
        )


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
    assert pipeline.camera.failures == ["a frame could not be segmented: RuntimeError: out of luck"]


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
