"""The threads that infer and publish, so that the executor stays free for everything else."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS, Levels
from rt_segmentation.inference.engines import Engine, EngineError
from rt_segmentation.inference.segmenter import Segmentation, Segmenter, SizesDiffer
from rt_segmentation.inference.sizes import Closed
from rt_segmentation.ros.camera import Camera
from rt_segmentation.ros.diagnostics import engine_problem
from rt_segmentation.ros.image_input import ImageMessage
from rt_segmentation.ros.messages import to_frame
from rt_segmentation.runtime.lanes import OrderedLanes
from rt_segmentation.runtime.slot import NewestSlot
from rt_segmentation.runtime.stall import Stall

T = TypeVar("T")
POLL_S = 0.2
HUNG = "hung"
"""Why frames are dropped that an engine does not answer, and those that come until there is another."""


@dataclass(frozen=True, eq=False)
class _Arrived:
    """A camera's message and when it came [s, of perf_counter]."""

    camera: Camera
    time_s: float
    message: ImageMessage


class _Decoded(NamedTuple):
    """A frame on its way to the engine, and what it took so far [ms]."""

    arrived: _Arrived
    frame: Frame
    stages_ms: dict[str, float]


class _Segmented(NamedTuple):
    """A frame on its way from the engine to its camera's topics."""

    arrived: _Arrived
    frame: Frame
    result: Segmentation
    stages_ms: dict[str, float]


class Worker:
    """Takes the newest message of each camera in turn, segments and publishes, until it is stopped.

    Concurrently the executor receives an image, the engine works at the newest ones before, one for each
    segmenter, and the masks of the one before those are rendered and published, in the order of the images.
    Where the engine is faster with them, images of several cameras that wait together are one batch.

    Args:
        segmenters: each with a thread of its own.
        parameter: gives a parameter's current value by name.
    """

    def __init__(self, segmenters: Sequence[Segmenter], parameter: Callable[[str], Any]) -> None:
        self._parameter = parameter
        self._slot: NewestSlot[_Arrived] = NewestSlot()
        self._abandoned = threading.Event()
        self._stall = Stall()
        self._numbers = count()
        # Guards what is begun and not on its way out yet, and which engines are at a frame or a batch, by its
        # number.
        self._changing = threading.Lock()
        self._begun: set[_Arrived] = set()
        self._inferring: dict[Hashable, Engine] = {}
        batches = self._slot.batches(lambda: segmenters[0].batch)
        self._lanes = OrderedLanes(batches, self._works(segmenters), "segmentation")
        self._publishing = threading.Thread(target=self._publish_all, name="publishing", daemon=True)
        self._publishing.start()

    def resize(self, segmenters: Sequence[Segmenter]) -> None:
        """Go on with as many threads as there are segmenters; those that are there keep theirs."""
        self._lanes.resize(self._works(segmenters))

    def hand_over(self, camera: Camera, message: ImageMessage) -> None:
        """Give the worker a camera's message, counted before; one that it has not begun is dropped."""
        if self._slot.put(_Arrived(camera, time.perf_counter(), message), camera) is not None:
            camera.statistics.frame_dropped("replaced")

    def stop(self, timeout_s: float | None, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Finish the frames at hand and end; may be called again.

        Args:
            timeout_s: how long to wait for that [s]; None without a limit.
            cancelled: asked meanwhile; when it is true nothing is waited for any more.

        Returns:
            Whether it has ended; if not, its results may find their topics gone, and that is no error.
        """
        for left in self._slot.close():
            left.camera.statistics.frame_dropped("deactivated")
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self.is_busy and not cancelled() and (left_s := deadline - time.monotonic()) > 0:
            self._publishing.join(min(left_s, POLL_S))
        if self.is_busy:
            self._abandoned.set()
        return not self.is_busy

    def stalled_s(self, is_excused: bool) -> float:
        """For how long the engine has been at one frame [s]; to be asked some times per second.

        Args:
            is_excused: whether frames may wait now, as for an engine that is being built.
        """
        with self._changing:
            numbers = list(self._inferring)
        return self._stall.look(numbers, is_excused)

    @property
    def stalled(self) -> Engine | None:
        """The engine that `stalled_s` told of last; None where it has answered since."""
        with self._changing:
            return self._inferring.get(self._stall.oldest)

    def give_up(self) -> int:
        """Leave an engine that hangs to itself; returns how many frames are lost, counted as `hung`.

        Whatever it may give later is not published.
        """
        self._abandoned.set()
        with self._changing:
            lost = [*self._begun]
            self._begun.clear()
        lost += self._slot.close()
        for arrived in lost:
            arrived.camera.statistics.frame_dropped(HUNG)
        return len(lost)

    @property
    def is_busy(self) -> bool:
        """Whether its threads have not ended."""
        return self._publishing.is_alive()

    def _works(self, segmenters: Sequence[Segmenter]) -> list[Callable[[list[_Arrived]], list[_Segmented]]]:
        return [partial(self._segment, segmenter) for segmenter in segmenters]

    def _publish_all(self) -> None:
        for batch in self._lanes:
            for segmented in batch:
                if self._take(segmented.arrived):
                    self._guarded(segmented.arrived, lambda _: True, self._publish, segmented)
        self._lanes.close()

    def _segment(self, segmenter: Segmenter, batch: list[_Arrived]) -> list[_Segmented]:
        """Those of a batch that could be segmented, in its order."""
        with self._changing:
            self._begun.update(batch)
        # One that took frames while the worker was given up comes too late for that count.
        if self._abandoned.is_set():
            for arrived in batch:
                if self._take(arrived):
                    arrived.camera.statistics.frame_dropped(HUNG)
        with self._at_work(segmenter):
            decoded = [self._guarded(arrived, self._take, self._decode, arrived) for arrived in batch]
        frames = [frame for frame in decoded if frame is not None]
        engine, refusal = segmenter.config.engine, ""
        if len(frames) > 1 and len(frames) == len(batch):
            try:
                return self._infer(segmenter, frames)
            # They make no batch: sizes of cameras differ or change, or one has its own error.
            except (SizesDiffer, ImageError, Closed):
                pass
            except Exception as error:
                refusal = f"{type(error).__name__}: {error}"
        # Those that were given up meanwhile are counted, and not for the engine that came after.
        frames = [frame for frame in frames if self._is_begun(frame.arrived)]
        # All of them are published after the last one: more than a segmenter's own buffers hold.
        kept = len(batch) > 1
        found = [
            self._guarded(frame.arrived, self._take, self._infer, segmenter, [frame], kept)
            for frame in frames
        ]
        segmented = [each for one in found if one is not None for each in one]
        # It was the batch that failed, not the engine as a whole; nor has another one taken its place.
        if refusal and segmented and segmenter.config.engine is engine:
            segmenter.refuse_batches(refusal)
        return segmented

    @contextlib.contextmanager
    def _at_work(self, segmenter: Segmenter) -> Iterator[None]:
        """For one piece of work, as `stalled_s` sees it: a batch, or each of its frames alone."""
        number = next(self._numbers)
        with self._changing:
            self._inferring[number] = segmenter.config.engine
        try:
            yield
        finally:
            with self._changing:
                del self._inferring[number]

    def _take(self, arrived: _Arrived) -> bool:
        """Whether a frame is to be counted by the caller: nobody else has counted it, nor will."""
        with self._changing:
            if arrived not in self._begun:
                return False
            self._begun.remove(arrived)
            return True

    def _is_begun(self, arrived: _Arrived) -> bool:
        """Whether a frame is to have its mask still."""
        with self._changing:
            return arrived in self._begun

    def _guarded(
        self, arrived: _Arrived, counts: Callable[[_Arrived], bool], step: Callable[..., T], *arguments: Any
    ) -> T | None:
        """Take a step for a camera's frame; one that fails is counted, and the next has its turn.

        Args:
            arrived: the frame.
            counts: whether one that failed is to be counted.
            step: called with the rest.
            arguments: of the step.
        """
        camera = arrived.camera
        try:
            return step(*arguments)
        except Closed:
            if counts(arrived):
                camera.statistics.frame_dropped("deactivated")
        except ImageError as error:
            if counts(arrived):
                camera.fails(str(error))
                camera.statistics.frame_dropped(error.reason)
        except EngineError as error:
            if counts(arrived):
                self._failed(
                    camera, engine_problem(error, self._parameter("engine"), self._parameter("precision"))
                )
        # An engine can fail in ways of its own, and the next frame may be fine: the robot needs the node.
        except Exception as error:
            if counts(arrived):
                self._failed(camera, f"{type(error).__name__}: {error}")
        return None

    def _failed(self, camera: Camera, why: str) -> None:
        if not self._abandoned.is_set():
            camera.fails(f"a frame could not be segmented: {why}")
        camera.statistics.frame_dropped("failed")

    def _decode(self, arrived: _Arrived) -> _Decoded:
        started = time.perf_counter()
        frame = self._eight_bit(arrived.camera, to_frame(arrived.message))
        stages_ms = {
            "waiting": (started - arrived.time_s) * 1e3,
            "decoding": (time.perf_counter() - started) * 1e3,
        }
        return _Decoded(arrived, frame, stages_ms)

    def _infer(self, segmenter: Segmenter, frames: list[_Decoded], kept: bool = False) -> list[_Segmented]:
        cameras = [arrived.camera for arrived, *_ in frames]
        outputs = [camera.outputs for camera in cameras]
        confidence = any(o is not None and o.listened("confidence") for o in outputs)
        with self._at_work(segmenter):
            results = segmenter.infer(
                [frame.frame for frame in frames],
                confidence,
                [camera.name for camera in cameras],
                kept=kept,
            )
        segmented = []
        for (arrived, frame, stages_ms), result in zip(frames, results):
            stages_ms.update(preprocessing=result.preprocess_ms, inference=result.inference_ms)
            segmented.append(_Segmented(arrived, frame, result, stages_ms))
        return segmented

    def _eight_bit(self, camera: Camera, frame: Frame) -> Frame:
        if frame.pixel_format not in EIGHT_BIT_FORMATS:
            return frame
        bits, levels = camera.parameter("image_bits"), camera.levels
        if bits != levels.bits:
            # Two lanes may meet here; what the one forgets that comes first, the next frame says again.
            levels = camera.levels = Levels(bits)
        return levels(frame)

    def _publish(self, segmented: _Segmented) -> None:
        camera = segmented.arrived.camera
        assert camera.outputs is not None
        started = time.perf_counter()
        result = camera.outputs.resize(segmented.result)
        resized = time.perf_counter()
        latency_ms = camera.outputs.publish(
            segmented.arrived.message.header,
            segmented.frame,
            result,
            self._parameter("overlay_opacity"),
            self._parameter("jpeg_quality"),
        )
        camera.size = segmented.frame.width, segmented.frame.height
        camera.statistics.frame_published(
            {
                **segmented.stages_ms,
                "postprocessing": (resized - started) * 1e3,
                "publishing": (time.perf_counter() - resized) * 1e3,
                **({} if latency_ms is None else {"latency": latency_ms}),
            }
        )
