"""The thread that infers and publishes, so that the executor stays free for everything else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.impl.rcutils_logger import RcutilsLogger

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.ros.image_input import ImageMessage
from rt_segmentation.ros.messages import to_frame
from rt_segmentation.ros.outputs import Outputs
from rt_segmentation.runtime.slot import NewestSlot
from rt_segmentation.runtime.statistics import StreamStatistics

POLL_S = 0.2


class Worker:
    """Takes the newest camera message, segments it and publishes the results, until it is stopped.

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
        """Finish the frame at hand and end.

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
        while not self._stopping.is_set():
            taken = self._slot.take(POLL_S)
            if taken is None:
                continue
            arrived, message = taken
            try:
                self._process(message, (time.perf_counter() - arrived) * 1e3)
            except ImageError as error:
                self._statistics.frame_dropped(error.reason)
                self._logger.error(str(error), throttle_duration_sec=1.0)
            # An engine can fail in ways of its own, and the next frame may be fine: the robot needs the node.
            except Exception as error:
                self._statistics.frame_dropped("failed")
                if self._abandoned:
                    return
                sentence = f"a frame could not be segmented: {type(error).__name__}: {error}"
                self._logger.error(sentence, throttle_duration_sec=1.0)

    def _process(self, message: ImageMessage, waiting_ms: float) -> None:
        started = time.perf_counter()
        frame = to_frame(message)
        decoded = time.perf_counter()
        resolution = self._parameter("output_resolution")
        if resolution != self._segmenter.config.output_resolution:
            self._segmenter.config = replace(self._segmenter.config, output_resolution=resolution)
        (result,) = self._segmenter.segment([frame], self._outputs.listened("confidence"))
        segmented = time.perf_counter()
        latency_ms = self._outputs.publish(
            message.header, frame, result, self._parameter("overlay_opacity"), self._parameter("jpeg_quality")
        )
        self._statistics.frame_published(
            {
                "waiting": waiting_ms,
                "decoding": (decoded - started) * 1e3,
                "preprocessing": result.preprocess_ms,
                "inference": result.inference_ms,
                "postprocessing": result.postprocess_ms,
                "publishing": (time.perf_counter() - segmented) * 1e3,
                "latency": latency_ms,
            }
        )
