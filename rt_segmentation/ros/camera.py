"""One camera of the node: its images, what became of them, and the topics of its masks."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.labels import LabelSet
from rt_segmentation.ros.camera_size import RememberedSize, Size, size_by_info
from rt_segmentation.ros.diagnostics import Limits, problems
from rt_segmentation.ros.image_input import ImageInput, ImageMessage, InfoInput
from rt_segmentation.ros.messages import stamp_ns, to_frame
from rt_segmentation.ros.outputs import Outputs
from rt_segmentation.ros.trouble_log import TroubleLog, kind_of
from rt_segmentation.runtime.statistics import Snapshot, StreamStatistics
from rt_segmentation.runtime.throttle import Throttle

EARLY_S = 2.0
"""For so long an image that came while the node was configured waits for somebody who listens to masks."""

MAX_FAILURES = 8
"""So many kinds of failures are in one report: a damaged camera may have any number."""


class Report(NamedTuple):
    """What diagnostics say of a camera: numbers, further values, and what is wrong, a sentence each."""

    now: Snapshot
    facts: dict[str, str]
    trouble: list[str]


class Camera:
    """Receives a camera's images and counts what becomes of them.

    Args:
        node: the topics' owner.
        name: stands before the names of the topics; empty for the only camera of a node.
        parameter: gives the current value of one of its parameters, by the name without the camera's.

    Attributes:
        name, parameter: as given.
        statistics: what became of the images.
        outputs: the topics of the masks; None while the node is not configured.
        hand_over: what gets its images, with the camera; None while nothing does.
        levels: of the images with 16 bits.
        size: (width, height) of the last image whose masks were published [px]; None before the first.
        troubles: of its status.
    """

    def __init__(self, node: Node, name: str, parameter: Callable[[str], Any]) -> None:
        self.name, self.parameter = name, parameter
        self.statistics = StreamStatistics()
        self.outputs: Outputs | None = None
        self.hand_over: Callable[[Camera, ImageMessage], None] | None = None
        self.levels = Levels()
        self.size: Size | None = None
        self.troubles = TroubleLog(node.get_logger(), whose=f"camera {name}" if name else "")
        self._node = node
        self._throttle = Throttle()
        self._reported = self.statistics.snapshot()
        # Why frames could not be segmented since the last report, by the kind of trouble.
        self._failures: dict[str, str] = {}
        self._failing = threading.Lock()
        self._told_size: Size | None = None
        # One image at a time goes to the worker: those of the thread that reads them, and the early one.
        self._receiving = threading.Lock()
        # The newest image that came while its size was asked for, and when [s, monotonic].
        self._early: ImageMessage | None = None
        self._early_at = 0.0
        self._early_is_kept = False
        # When those came that it replaced [s, monotonic].
        self._early_replaced: list[float] = []
        self._remembered: RememberedSize | None = None
        above = f"{name}/" if name else ""
        self._topic = f"{above}image"
        self._input = ImageInput(node, self._receive, self.statistics.messages_lost, self._topic)
        self._info_input = InfoInput(node, self._remember, f"{above}camera_info")

    def __str__(self) -> str:
        """As a part of a sentence."""
        return f"the camera '{self.name}'" if self.name else "the camera"

    @property
    def topic(self) -> str:
        """The full name of its images."""
        return self._node.resolve_topic_name(self._topic)

    @property
    def known_size(self) -> Size | None:
        """The size of its images [px]: the last one's, or what the last run or `ask_size` told."""
        return self.size or self._told_size

    def configure(self, labels: LabelSet) -> None:
        """Make its topics."""
        self.outputs = Outputs(self._node, labels, self.name)
        self._remembered = RememberedSize(self._node.get_fully_qualified_name(), self.topic)
        self._told_size = self._remembered.size

    def listened(self) -> bool:
        """Whether anybody listens to its masks."""
        return self.outputs is not None and self.outputs.listened()

    def watch(self, wanted: bool) -> None:
        """Follow the graph: subscribe while its masks are wanted."""
        self.statistics.follow(wanted)
        self._input.update(wanted, self.parameter("image_transport"))
        self._info_input.update(wanted and self.outputs is not None and self.outputs.listened("camera_info"))
        with self._receiving:
            early = self._early
            if early is not None and (wanted or time.monotonic() > self._early_at + EARLY_S):
                self._early = None
                if wanted:
                    self._count_replaced()
                    self._hand_over(early, self._early_is_kept)
                self._early_replaced.clear()

    def tell(self, labels: LabelSet) -> None:
        """Say which classes masks have from now on; while a frame is on its way, masks will."""
        if self.outputs is not None and self.statistics.is_at_rest:
            self.outputs.tell(labels)

    @property
    def may_tell_size(self) -> bool:
        """Whether the size of its images is not known, and one may come, as somebody publishes them."""
        return self.known_size is None and self._input.has_publisher

    def ask_size(self) -> None:
        """Take a calibration or an image where the size is not known, inside a callback of the executor.

        Images come on a thread of their own; the newest of them waits until masks are wanted: its sender may
        publish no other. So they are received, too, where somebody listens to masks already.
        """
        # An image may have told the size meanwhile; a calibration that waits may be the only one.
        self._info_input.take()
        unknown = self.known_size is None
        self._info_input.update(unknown)
        wanted = unknown or self._early is not None or self.listened()
        self._input.update(wanted, self.parameter("image_transport"))

    def report(self, limits: Limits, wanted: bool) -> Report:
        """What there is to say since the last call.

        Args:
            limits: beyond these something is wrong.
            wanted: whether images are expected.
        """
        now, before = self.statistics.snapshot(), self._reported
        self._reported = now
        with self._failing:
            failures, self._failures = self._failures, {}
        facts: dict[str, str] = {}
        trouble: list[str] = []
        if self.size is not None and self._remembered is not None:
            self._remembered.remember(self.size)
        if self.outputs is not None and wanted:
            trouble += problems(now, before, self._input, limits)
            if not self.outputs.has_info and self._info_input.subscribed_s > limits.stale_after_s:
                trouble.append(
                    f"~/camera_info is listened to, and nothing has come on {self._info_input.topic}:"
                    f" {self._info_input.why_silent()}"
                )
            stamp_problem = self.outputs.stamp_problem
            if stamp_problem:
                facts["latency"] = stamp_problem
                if limits.max_latency_ms > 0 and now.published > before.published:
                    trouble.append(stamp_problem)
            trouble += failures.values()
        return Report(now, facts, trouble)

    def fails(self, why: str) -> None:
        """A frame could not be segmented, as a sentence says: the next report tells it; for any thread."""
        with self._failing:
            if len(self._failures) < MAX_FAILURES:
                self._failures.setdefault(kind_of(why), why)

    def stop(self) -> None:
        """Receive no more images."""
        self._input.close()
        self.hand_over = None
        self.statistics.follow(False)

    def release(self) -> None:
        """Take its topics away."""
        self._info_input.close()
        self._input.close()
        self._early = None
        self._early_replaced.clear()
        if self.outputs is not None:
            self.outputs.close()
        self.outputs = None

    def _receive(self, message: ImageMessage) -> None:
        """On the thread that reads the images."""
        with self._receiving:
            if self._early is not None:
                self._early = None
                self._early_replaced.append(self._early_at)
            if self.hand_over is not None:
                self._count_replaced()
            self._hand_over(message, self._input.is_kept)

    def _count_replaced(self) -> None:
        """Count the early images that a newer one has replaced, in the rate of the time when they came."""
        for came_at in self._early_replaced:
            self.statistics.frame_received(came_at)
            self.statistics.frame_dropped("replaced")
        self._early_replaced.clear()

    def _hand_over(self, message: ImageMessage, is_kept: bool) -> None:
        """Give an image to the worker, unless it is one too many; or see it, until there is a worker."""
        hand_over = self.hand_over
        if hand_over is None:
            self._see(message, is_kept)
            return
        self.statistics.frame_received()
        if self.outputs is not None:
            self.outputs.health.arrived()
            if is_kept:
                self.outputs.kept_ns = stamp_ns(message.header)
        if self._throttle.passes(self.parameter("max_rate_hz")):
            hand_over(self, message)
        else:
            self.statistics.frame_dropped("throttled")

    def _see(self, message: ImageMessage, is_kept: bool) -> None:
        """Learn the size; whatever is wrong with an image is said once images are to be segmented."""
        self._early, self._early_at, self._early_is_kept = message, time.monotonic(), is_kept
        if self._told_size is None:
            with contextlib.suppress(ImageError):
                frame = to_frame(message)
                self._told_size = frame.width, frame.height

    def _remember(self, info: CameraInfo) -> None:
        if self._told_size is None:
            self._told_size = size_by_info(info)
        if self.outputs is not None:
            self.outputs.remember(info)
