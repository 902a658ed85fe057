"""The threads that infer and publish, so that the executor stays free for everything else."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
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
from rt_segmentation.runtime.lanes import OrderedLanes
from rt_segmentation.runtime.slot import NewestSlot
from rt_segmentation.runtime.statistics import StreamStatistics

T = TypeVar("T")
POLL_S = 0.2


class _Arrived(NamedTuple):
    """A message and when it came [s, of perf_counter]."""

    time_s: float
    message: ImageMessage


class _Segmented(NamedTuple):
    """A frame on its way from the engine to its topics."""

    header: Header
    frame: Frame
    result: Segmentation
    stages_ms: dict[str, float]


class Worker:
    """Takes the newest camera message, segments it and publishes the results, until it is stopped.

    Concurrently the executor receives an image, the engine works at the newest ones before, one for each
    segmenter, and the masks of the one before those are rendered and published, in the order of the images.

    Args:
        segmenters: each with a thread of its own.
        outputs, statistics, logger: what a frame passes through.
        parameter: gives a parameter's current value by name.

    Attributes:
        failure: why the last of the frames that failed did, in a sentence.
        camera_size: (width, height) of the last image whose masks were published [px]; None before the first.
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
        self.camera_size: tuple[int, int] | None = None
        self._outputs, self._statistics = outputs, statistics
        self._logger, self._parameter = logger, parameter
        # All lanes have one camera's images.
        self._levels = Levels()
        self._slot: NewestSlot[_Arrived] = NewestSlot()
        self._abandoned = threading.Event()
        lanes = OrderedLanes(
            iter(self._slot), [partial(self._segment, segmenter) for segmenter in segmenters], "segmentation"
        )
        self._publishing = threading.Thread(
            target=self._publish_all, args=(lanes,), name="publishing", daemon=True
        )
        self._publishing.start()

    def hand_over(self, message: ImageMessage) -> None:
        """Give the worker a message; one that it has not begun is dropped for it."""
        self._statistics.frame_received()
        if self._slot.put(_Arrived(time.perf_counter(), message)) is not None:
            self._statistics.frame_dropped("replaced")

    def stop(self, timeout_s: float | None, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Finish the frames at hand and end; may be called again.

        Args:
            timeout_s: how long to wait for that [s]; None without a limit.
            cancelled: asked meanwhile; when it is true nothing is waited for any more.

        Returns:
            Whether it has ended; if not, its results may find their topics gone, and that is no error.
        """
        if self._slot.close() is not None:
            self._statistics.frame_dropped("deactivated")
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self.is_busy and not cancelled() and (left_s := deadline - time.monotonic()) > 0:
            self._publishing.join(min(left_s, POLL_S))
        if self.is_busy:
            self._abandoned.set()
        return not self.is_busy

    @property
    def is_busy(self) -> bool:
        """Whether its threads have not ended."""
        return self._publishing.is_alive()

    def _publish_all(self, lanes: OrderedLanes[_Arrived, _Segmented | None]) -> None:
        for segmented in lanes:
            if segmented is not None:
                self._guarded(self._publish, segmented)
        lanes.close()

    def _segment(self, segmenter: Segmenter, arrived: _Arrived) -> _Segmented | None:
        return self._guarded(self._infer, segmenter, arrived)

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
        if not self._abandoned.is_set():
            self._logger.error(self.failure, throttle_duration_sec=1.0)

    def _infer(self, segmenter: Segmenter, arrived: _Arrived) -> _Segmented:
        time_s, message = arrived
        started = time.perf_counter()
        frame = self._eight_bit(to_frame(message))
        decoded = time.perf_counter()
        (result,) = segmenter.infer([frame], self._outputs.listened("confidence"))
        stages_ms = {
            "waiting": (started - time_s) * 1e3,
            "decoding": (decoded - started) * 1e3,
            "preprocessing": result.preprocess_ms,
            "inference": result.inference_ms,
        }
        return _Segmented(message.header, frame, result, stages_ms)

    def _eight_bit(self, frame: Frame) -> Frame:
        if frame.pixel_format not in EIGHT_BIT_FORMATS:
            return frame
        bits, levels = self._parameter("image_bits"), self._levels
        if bits != levels.bits:
            # Two lanes may meet here; what the one forgets that comes first, the next frame says again.
            levels = self._levels = Levels(bits)
        return levels(frame)

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
        self.camera_size = segmented.frame.width, segmented.frame.height
        self._statistics.frame_published(
            {
                **segmented.stages_ms,
                "postprocessing": (resized - started) * 1e3,
                "publishing": (time.perf_counter() - resized) * 1e3,
                **({} if latency_ms is None else {"latency": latency_ms}),
            }
        )
