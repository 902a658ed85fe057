"""The demo's end of the line: receives what the node publishes and compares it with the truth."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.ros.messages import stamp_ns

RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
REMEMBERED_FRAMES = 60


@dataclass
class View:
    """What has come of one stamp so far: uint8 arrays, (H, W) or (H, W, 3) RGB."""

    camera: np.ndarray | None = None
    truth: np.ndarray | None = None
    labels: np.ndarray | None = None
    color: np.ndarray | None = None
    overlay: np.ndarray | None = None
    counted: bool = False

    def complete(self, with_truth: bool) -> bool:
        """Whether all pictures are there."""
        return all(v is not None for v in (self.camera, self.labels, self.color, self.overlay)) and not (
            with_truth and self.truth is None
        )


class Viewer(Node):
    """Subscribes to the camera, its true labels, the node's masks and the diagnostics.

    Args:
        num_classes: of the node's model.
        with_truth: whether the camera knows the true labels.

    Attributes:
        masks: label images received.
        confusion: their pixels against the truth's.
        latencies_ms: from the camera's stamp to the mask's arrival here.
        diagnostics: the node's last values by name.
        level_message: the node's last diagnostic message.
        shown: the last frame of which all pictures came.
    """

    def __init__(self, num_classes: int, with_truth: bool) -> None:
        super().__init__("rt_segmentation_demo")
        self.masks = 0
        self.confusion = ConfusionMatrix(num_classes)
        self.latencies_ms: list[float] = []
        self.diagnostics: dict[str, str] = {}
        self.level_message = ""
        self.shown: View | None = None
        self.first_mask_s = self.last_mask_s = 0.0
        self._with_truth = with_truth
        self._views: OrderedDict[int, View] = OrderedDict()
        topics = {
            "camera": "/image",
            "truth": "/label",
            "labels": "/segmentation_node/label",
            "color": "/segmentation_node/color",
            "overlay": "/segmentation_node/overlay",
        }
        for part, topic in topics.items():
            self.create_subscription(
                Image, topic, lambda message, part=part: self._receive(part, message), RELIABLE
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, RELIABLE)

    def _receive(self, part: str, message: Image) -> None:
        key = stamp_ns(message.header)
        channels = () if message.encoding == "mono8" else (3,)
        array = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, *channels)
        view = self._views.setdefault(key, View())
        setattr(view, part, array)
        while len(self._views) > REMEMBERED_FRAMES:
            self._views.popitem(last=False)
        if part == "labels":
            self.masks += 1
            self.last_mask_s = time.monotonic()
            self.first_mask_s = self.first_mask_s or self.last_mask_s
            self.latencies_ms.append((self.get_clock().now().nanoseconds - key) / 1e6)
        if view.labels is not None and view.truth is not None and not view.counted:
            view.counted = True
            self.confusion.update(view.truth, view.labels)
        if view.complete(self._with_truth):
            self.shown = view

    def _diagnose(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(": segmentation"):
                self.diagnostics = {v.key: v.value for v in status.values}
                self.level_message = status.message
