"""How long the node takes from its process's start to its first mask, and how much memory it then has."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.ros.messages import image_message, stamp_ns
from rt_segmentation.ros.middleware import start_ros
from rt_segmentation.ros.parameters import Value
from rt_segmentation.ros.processes import Process, ros_environment
from rt_segmentation.ros.signals import ended_by_sigterm

RATE_HZ = 10.0
# So many masks later all buffers are there.
SETTLED_MASKS = 20
TIMEOUT_S = 300.0

_MODULE = "rt_segmentation.ros.segmentation_node"


@dataclass(frozen=True)
class StartUp:
    """One start.

    Attributes:
        first_mask_s: from the process's start to the first mask's arrival in another process.
        memory_mb: resident, `SETTLED_MASKS` masks later.
        first_latency_ms: of the first mask, from its frame's stamp to its arrival.
        latency_ms: of those after it, median.
    """

    first_mask_s: float
    memory_mb: float
    first_latency_ms: float
    latency_ms: float


def start_node(parameters: Mapping[str, Value], size: tuple[int, int], out: Path) -> StartUp:
    """Start the node beside a camera that is already publishing.

    Args:
        parameters: the node's.
        size: (width, height) of the camera's frames [px].
        out: folder for the node's log.

    Raises:
        BenchmarkError: the node ended, or gave no masks; the message has its last words.
    """
    out.mkdir(parents=True, exist_ok=True)
    environment = ros_environment()
    os.environ.update(environment)
    start_ros("rt_seg")
    camera = Node("benchmark_camera")
    arrivals: list[float] = []
    latencies_ms: list[float] = []

    def receive(mask: Image) -> None:
        arrivals.append(time.monotonic())
        latencies_ms.append((camera.get_clock().now().nanoseconds - stamp_ns(mask.header)) / 1e6)

    try:
        reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        publisher = camera.create_publisher(Image, "image", reliable)
        camera.create_subscription(Image, "segmentation_node/label", receive, reliable)
        message = image_message(Header(frame_id="camera"), StreetScene(0, *size).render(0.0)[0], "rgb8")

        def publish() -> None:
            message.header.stamp = camera.get_clock().now().to_msg()
            publisher.publish(message)

        camera.create_timer(1 / RATE_HZ, publish)
        started = time.monotonic()
        with ended_by_sigterm(), Process(_MODULE, parameters, environment, out / "startup.log") as node:
            while len(arrivals) < SETTLED_MASKS:
                rclpy.spin_once(camera, timeout_sec=0.05)
                if node.exit_status is not None or time.monotonic() - started > TIMEOUT_S:
                    raise BenchmarkError(f"the node gave no masks; it said: {node.last_words()}")
            return StartUp(
                round(arrivals[0] - started, 3),
                round(node.resident_mb(), 1),
                round(latencies_ms[0], 1),
                round(statistics.median(latencies_ms[1:]), 1),
            )
    finally:
        camera.destroy_node()
        rclpy.try_shutdown()
