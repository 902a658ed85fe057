"""The threads that infer and publish, so that the executor stays free for everything else."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import Header

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS, Levels
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.segmenter import Segmentation, Segmenter
from rt_segmentation.inference.sizes import Closed
from rt_segmentation.ros.diagnostics import engine_problem
from rt_segmentation.ros.image_input import ImageMessage
from rt_segmentation.ros.messages import to_frame
from rt_segmentation.ros.outputs import Outputs
from rt_segmentation.ros.segmentation_parameters import geometry
from rt_segmentation.runtime.slot import NewestSlot
from rt_segmentation.runtime.statistics import StreamStatistics

T = TypeVar("T")
POLL_S = 0.2


class _Segmented(NamedTuple):
    """A frame on its way from the engine to its topics."""

    header: Header
    frame: Frame
    result: Segmentation
    stages_ms: dict[str, float]


class Worker:
    """Takes the newest camera message, segments it and publishes the results, until it is stopped.

    At once the executor receives an image, the engine works at the newest ones before, one for each
    segmenter, and the masks of the one before those are rendered and published.

    Args:
        segmenters: each with a thread of its own.
        outputs, statistics, logger: what a frame passes through.
        parameter: gives a parameter's current value by name.

    Attributes:
        failure: why the last of the frames that failed did, in a sentence.
    """

    def __init__(
        self,
        segmenters: Sequence[Segmenter],
        outputs: Outputs,
        statistics: StreamStatistics,
        logger: RcutilsLogger,
        parameter: Callable[[str], Any],
    ) -> None:
        self.failure = ""
        self._outputs, self._statistics = outputs, statistics
        self._logger, self._parameter = logger, parameter
        # All lanes have one camera's images.
        self._levels = Levels()
        self._slot: NewestSlot[tuple[float, ImageMessage]] = NewestSlot()
        self._stopping = threading.Event()
        self._abandoned = False
        # Whoever has it takes the next frame, and the handover of the one before it to wait for.
        self._taking = threading.Lock()
        self._last_handover: Future[None] = Future()
        self._last_handover.set_result(None)
        self._publishing = ThreadPoolExecutor(1, "publishing")
        self._published: Future[None] | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(segmenter,), name="segmentation", daemon=True)
            for segmenter in segmenters
        ]
        for thread in self._threads:
            thread.start()

    def hand_over(self, message: ImageMessage) -> None:
        """Give the worker a message; one that it has not begun is dropped for it."""
        self._statistics.frame_received()
        if self._slot.put((time.perf_counter(), message)) is not None:
            self._statistics.frame_dropped("replaced")

    def stop(self, timeout_s: float | None, hurried: Callable[[], bool] = lambda: False) -> bool:
        """Finish the frames at hand and end; may be called again.

        Args:
            timeout_s: how long to wait for that [s]; None without a limit.
            hurried: asked meanwhile; when it is true nothing is waited for any more.

        Returns:
            Whether it has ended; if not, its results may find their topics gone, and that is no error.
        """
        self._stopping.set()
        if self._slot.close() is not None:
            self._statistics.frame_dropped("deactivated")
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            while thread.is_alive() and not hurried() and (left_s := deadline - time.monotonic()) > 0:
                thread.join(min(left_s, POLL_S))
        self._abandoned = any(thread.is_alive() for thread in self._threads)
        if not self._abandoned:
            self._publishing.shutdown()
        return not self._abandoned

    def _run(self, segmenter: Segmenter) -> None:
        # A frame is published while the engine works at the next ones; each is handed over when the one
        # before it is out, so masks keep their order and none waits behind more than one other.
        while not self._stopping.is_set():
            with self._taking:
                taken = self._slot.take(POLL_S)
                if taken is None:
                    continue
                before, handover = self._last_handover, Future[None]()
                self._last_handover = handover
            segmented = self._guarded(self._segment, segmenter, *taken)
            before.result()
            self._wait_for_publishing()
            if segmented is not None:
                self._published = self._publishing.submit(self._guarded, self._publish, segmented)
            handover.set_result(None)
        self._wait_for_publishing()

    def _wait_for_publishing(self) -> None:
        if self._published is not None:
            self._published.result()

    def _guarded(self, step: Callable[..., T], *arguments: Any) -> T | None:
        """Take a step for a frame; one that fails is counted, said, and the next frame has its turn."""
        try:
            return step(*arguments)
        except Closed:
            self._statistics.frame_dropped("deactivated")
        except ImageError as error:
            self._statistics.frame_dropped(error.reason)
            self._logger.error(str(error), throttle_duration_sec=1.0)
        except EngineError as error:
            self._failed(engine_problem(error, self._parameter("engine"), self._parameter("precision")))
        # An engine can fail in ways of its own, and the next frame may be fine: the robot needs the node.
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
        return None

    def _failed(self, why: str) -> None:
        self.failure = f"a frame could not be segmented: {why}"
        self._statistics.frame_dropped("failed")
        if not self._abandoned:
            self._logger.error(self.failure, throttle_duration_sec=1.0)

    def _segment(self, segmenter: Segmenter, arrived: float, message: ImageMessage) -> _Segmented:
        started = time.perf_counter()
        frame = self._eight_bit(to_frame(message))
        decoded = time.perf_counter()
        wanted = geometry(self._parameter)
        if any(getattr(segmenter.config, name) != value for name, value in wanted.items()):
            segmenter.config = replace(segmenter.config, **wanted)
        (result,) = segmenter.infer([frame], self._outputs.listened("confidence"))
        stages_ms = {
            "waiting": (started - arrived) * 1e3,
            "decoding": (decoded - started) * 1e3,
            "preprocessing": result.preprocess_ms,
            "inference": result.inference_ms,
        }
        return _Segmented(message.header, frame, result, stages_ms)

    def _eight_bit(self, frame: Frame) -> Frame:
        if frame.pixel_format not in EIGHT_BIT_FORMATS:
            return frame
        bits = self._parameter("image_bits")
        if bits != self._levels.bits:
            self._levels = Levels(bits)
        return self._levels(frame)

    def _publish(self, segmented: _Segmented) -> None:
        started = time.perf_counter()
        result = self._outputs.resize(segmented.result)
        resized = time.perf_counter()
        latency_ms = self._outputs.publish(
            segmented.header,
            segmented.frame,
            result,
            self._parameter("overlay_opacity"),
            self._parameter("jpeg_quality"),
        )
        self._statistics.frame_published(
            {
                **segmented.stages_ms,
                "postprocessing": (resized - started) * 1e3,
                "publishing": (time.perf_counter() - resized) * 1e3,
                **({} if latency_ms is None else {"latency": latency_ms}),
            }
        )
