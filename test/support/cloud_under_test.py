"""The semantic cloud node as a process of its own, what feeds it, and what it says."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from rt_segmentation.ros.messages import image_message
from support.node_under_test import RELIABLE, ros_args

MODULE = "rt_segmentation.ros.cloud_node"
HEIGHT, WIDTH = 40, 48
FX, FY, CX, CY = 50.0, 52.0, 22.5, 18.0
PATIENCE_S = 90.0

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 12, (HEIGHT, WIDTH)).astype(np.uint8)
CERTAIN = RNG.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
METRES = RNG.uniform(0.5, 9.0, (HEIGHT, WIDTH)).astype(np.float32)
METRES[3, 5] = math.nan


class Cloud:
    """The node, what feeds it, and what it says."""

    def __init__(self, stage: Any, namespace: str, arguments: Sequence[str] = (), **parameters: Any) -> None:
        self._observer, self._namespace = stage.observer, namespace
        node = stage.observer.node
        geometry = PointCloud2 if parameters.get("geometry") == "points" else Image
        self._types = {
            "label": Image,
            **{name: Image for name in ("confidence", "color") if parameters.get(f"use_{name}", True)},
            parameters.get("geometry", "depth"): geometry,
            "camera_info": CameraInfo,
        }
        self._publishers = {
            name: node.create_publisher(message_type, f"{namespace}/{name}", RELIABLE)
            for name, message_type in self._types.items()
        }
        self._reports = stage.observer.subscribe(DiagnosticArray, "/diagnostics", RELIABLE)
        self.process = stage.spawn(MODULE, *ros_args(namespace, **parameters), *arguments)
        self.clouds: list[PointCloud2] = stage.observer.subscribe(
            PointCloud2, f"{namespace}/semantic_cloud_node/points", RELIABLE
        )
        self._second = 0
        self.spin_until(lambda: all(p.get_subscription_count() for p in self._publishers.values()))
        # A match is known here before it is there.
        self.spin_for(0.5)

    def spin_until(self, reached: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > deadline or not self.process.is_running():
                raise AssertionError(f"not reached; last values {self.values()}\n{self.process.output}")
            self._observer.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, duration_s: float) -> None:
        over = time.monotonic() + duration_s
        while time.monotonic() < over:
            self._observer.executor.spin_once(timeout_sec=0.05)

    def send(self, frame_id: str = "lens", late: dict[str, float] | None = None, **messages: Any) -> None:
        """Publish messages with a stamp of their own, some of them `late` [s]; the info first."""
        self._second += 10
        for name in sorted(messages, key=lambda name: name != "camera_info"):
            message = messages[name]
            stamp_ns = round((1000 + self._second + (late or {}).get(name, 0.0)) * 1e9)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            message.header.frame_id = message.header.frame_id or frame_id
            self._publishers[name].publish(message)

    def made_of(self, **messages: Any) -> PointCloud2:
        """The cloud that the messages make."""
        before = len(self.clouds)
        self.send(**messages)
        self.spin_until(lambda: len(self.clouds) > before)
        return self.clouds[-1]

    def values(self) -> dict[str, str]:
        """The numbers of the last status."""
        statuses = self._statuses()
        return {pair.key: pair.value for pair in statuses[-1].values} if statuses else {}

    def _statuses(self) -> list[Any]:
        name = f"{self._namespace}/semantic_cloud_node: cloud"
        return [status for report in self._reports for status in report.status if status.name == name]

    def says(self, sentence: str) -> None:
        """Wait until the sentence is in the log and in the diagnostics, as a warning."""
        self.process.wait_for(sentence)
        self.spin_until(lambda: any(sentence in s.message and s.level == b"\x01" for s in self._statuses()))


def of(pixels: np.ndarray, encoding: str) -> Image:
    message = image_message(Image().header, pixels.view(np.uint8), encoding)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // message.height
    return message


def calibration(width: int = WIDTH, height: int = HEIGHT, focal: float = FX) -> CameraInfo:
    k = [focal, 0.0, CX, 0.0, FY if focal else 0.0, CY, 0.0, 0.0, 1.0]
    return CameraInfo(width=width, height=height, k=k, p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0])


def frame(**changes: Any) -> dict[str, Any]:
    messages = {
        "label": of(LABELS, "mono8"),
        "confidence": of(CERTAIN, "mono8"),
        "color": of(COLOUR, "rgb8"),
        "depth": of(METRES, "32FC1"),
        "camera_info": calibration(),
    }
    return {name: message for name, message in {**messages, **changes}.items() if message is not None}
