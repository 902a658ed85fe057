"""The threads that infer and publish, so that the executor stays free for everything else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from rclpy.impl.rcutils_logger import RcutilsLogger
from std_msgs.msg import Header

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmentation, Segmenter
from rt_segmentation.ros.image_input import ImageMessage
from rt_segmentation.ros.messages import to_frame
from rt_segmentation.ros.outputs import Outputs
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

    Three things go on at once: the executor receives an image, the engine works at the newest one before, and
    the masks of the one before that are rendered and published.

    Args:
        segmenter, outputs, statistics, logger: what a frame passes through.
        parameter: gives a parameter's current value by name.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        outputs: Outputs,
        statistics: StreamStatistics,
        logger: RcutilsLogger,
        parameter: Callable[[str], Any],
    ) -> None:
        self._segmenter, self._outputs, self._statistics = segmenter, outputs, statistics
        self._logger, self._parameter = logger, parameter
        self._slot: NewestSlot[tuple[float, ImageMessage]] = NewestSlot()
        self._stopping = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="segmentation", daemon=True)
        self._thread.start()

    def hand_over(self, message: ImageMessage) -> None:
        """Give the worker a message; one that it has not begun is dropped for it."""
        self._statistics.frame_received()
        if self._slot.put((time.perf_counter(), message)) is not None:
            self._statistics.frame_dropped("replaced")

    def stop(self, timeout_s: float | None) -> bool:
        """Finish the frames at hand and end.

        Args:
            timeout_s: how long to wait for that [s]; None without a limit.

        Returns:
            Whether it has ended; if not, its results may find their topics gone, and that is no error.
        """
        self._stopping.set()
        if self._slot.close() is not None:
            self._statistics.frame_dropped("deactivated")
        self._thread.join(timeout_s)
        self._abandoned = self._thread.is_alive()
        return not self._abandoned

    def _run(self) -> None:
        # A frame is published while the engine works at the next one; that one is handed over when the first
        # is out, so masks keep their order and none waits behind more than one other.
        with ThreadPoolExecutor(1, "publishing") as publishing:
            published: Future[None] | None = None
            while not self._stopping.is_set():
                taken = self._slot.take(POLL_S)
                if taken is None:
                    continue
                segmented = self._guarded(self._segment, *taken)
                if published is not None:
                    published.result()
                if segmented is not None:
                    published = publishing.submit(self._guarded, self._publish, segmented)

    def _guarded(self, step: Callable[..., T], *arguments: Any) -> T | None:
        """Take a step for a frame; one that fails is counted, said, and the next frame has its turn."""
        try:
            return step(*arguments)
        except ImageError as error:
            self._statistics.frame_dropped(error.reason)
            self._logger.error(str(error), throttle_duration_sec=1.0)
        # An engine can fail in ways of its own, and the next frame may be fine: the robot needs the node.
        except Exception as error:
            self._statistics.frame_dropped("failed")
            if not self._abandoned:
                sentence = f"a frame could not be segmented: {type(error).__name__}: {error}"
                self._logger.error(sentence, throttle_duration_sec=1.0)
        return None

    def _segment(self, arrived: float, message: ImageMessage) -> _Segmented:
        started = time.perf_counter()
        frame = to_frame(message)
        decoded = time.perf_counter()
        resolution = self._parameter("output_resolution")
        if resolution != self._segmenter.config.output_resolution:
            self._segmenter.config = replace(self._segmenter.config, output_resolution=resolution)
        (result,) = self._segmenter.infer([frame], self._outputs.listened("confidence"))
        stages_ms = {
            "waiting": (started - arrived) * 1e3,
            "decoding": (decoded - started) * 1e3,
            "preprocessing": result.preprocess_ms,
            "inference": result.inference_ms,
        }
        return _Segmented(message.header, frame, result, stages_ms)

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
                "latency": latency_ms,
            }
        )
