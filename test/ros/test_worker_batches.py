"""Frames of several cameras that wait together: when they are a batch, and what becomes of one that fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from builtin_interfaces.msg import Time  # type: ignore[import-untyped]
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.worker_parts import LABELS, PATIENCE_S, PartOfCamera, answer

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.segmenter import Segmentation, Segmenter, SegmenterConfig, SizesDiffer
from rt_segmentation.models import find_model
from rt_segmentation.ros.camera import Camera
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.worker import Worker
from rt_segmentation.runtime.statistics import StreamStatistics


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
        self.worker = Worker([cast("Segmenter", self._segmenter)], lambda _: "auto")

    def _camera(self, name: str) -> Camera:
        def publish(header: Header, *_: Any) -> float:
            self.published.append((name, header.stamp.sec))
            return 1.0

        outputs = SimpleNamespace(listened=lambda _: False, resize=lambda r: r, publish=publish)
        return cast("Camera", PartOfCamera(outputs, StreamStatistics(), name))

    def _refuse(self, why: str) -> None:
        self.refused.append(why)
        self._segmenter.batch = 1

    def _infer(
        self, frames: Sequence[Frame], _: bool, sources: Sequence[str], *, kept: bool
    ) -> list[Segmentation]:
        self.calls.append(list(sources))
        self.begun.set()
        assert self.held.wait(PATIENCE_S)
        if len(frames) > 1 and self._refuses is not None:
            raise self._refuses
        if self._bad in sources:
            raise RuntimeError("out of luck")
        return [answer(frame) for frame in frames]

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

    def fail(frames: Sequence[Frame], _: bool, sources: Sequence[str], *, kept: bool) -> Any:
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

    def slowly(*arguments: Any, kept: bool) -> Any:
        at_work.release()
        assert go_on.acquire(timeout=PATIENCE_S)
        return infer(*arguments, kept=kept)

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

    def swapped_meanwhile(
        frames: Sequence[Frame], confidence: bool, sources: Sequence[str], *, kept: bool
    ) -> Any:
        if len(frames) > 1:
            # The frame before may still be on its way out, and is no part of what is given up.
            while not batches._settled()["a"]:
                threading.Event().wait(0.001)
            batches.config.engine = "the second"
            assert batches.worker.give_up() == 2
        return infer(frames, confidence, sources, kept=kept)

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


class Held:
    """An engine that sees no class but the first, and waits until it is let go."""

    name, precision, device = "held", "fp32", "cpu"

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def infer(self, images: np.ndarray, _: bool) -> tuple[np.ndarray, None]:
        self.begun.set()
        assert self.released.wait(PATIENCE_S)
        return np.zeros(images.shape[:3], np.uint8), None


class BatchesOfFour(Segmenter):
    @property
    def batch(self) -> int:
        return 4


def test_frames_that_made_no_batch_are_published_with_their_own_pictures() -> None:
    manifest, engine = find_model("enet_street"), Held()
    config = SegmenterConfig(manifest, manifest.labels(), cast("Any", engine), (64, 64), "network")
    # The region of one camera is not in its image: whatever it sends ends the batch.
    config = replace(config, sources={"d": replace(config, roi=Region(0, 0, 400, 400))})
    shown: list[tuple[int, int]] = []

    def publish(_: Header, frame: Frame, result: Segmentation, *__: Any) -> float:
        shown.append((int(frame.planes[0][0, 0, 0]), int(result.rgb[0, 0, 0])))
        return 1.0

    outputs = SimpleNamespace(listened=lambda _: False, resize=lambda r: r.resized(), publish=publish)
    cameras = {n: cast("Camera", PartOfCamera(outputs, StreamStatistics(), n)) for n in "abcd"}
    worker = Worker([BatchesOfFour(config)], lambda _: "auto")

    def hand_over(name: str) -> None:
        cameras[name].statistics.frame_received()
        image = np.full((64, 64, 3), 10 * (ord(name) - 96), np.uint8)
        worker.hand_over(cameras[name], cast("Image", image_message(Header(), image, "bgr8")))

    hand_over("a")
    assert engine.begun.wait(PATIENCE_S)
    for name in "abcd":
        hand_over(name)
    engine.released.set()
    while not cameras["c"].statistics.snapshot().published:
        threading.Event().wait(0.001)
    assert worker.stop(PATIENCE_S)
    assert sorted(shown) == [(10, 10), (10, 10), (20, 20), (30, 30)]
    assert cameras["d"].statistics.snapshot().dropped == {"roi_outside": 1}
