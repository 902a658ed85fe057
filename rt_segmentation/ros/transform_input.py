"""/tf and /tf_static into a tree of frames, where tf2_msgs is installed."""

from __future__ import annotations

import importlib
import os
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.runtime.transforms import Matrix, TransformBuffer, TransformError


class TransformInput:
    """Listens to the robot's coordinate frames from its start on, as the static ones come once.

    Args:
        node: the subscriptions' owner.
        tolerance_s: as for `TransformBuffer`.
        instead: the parameter that gives the pose where there is no /tf.
    """

    def __init__(self, node: Node, tolerance_s: float, instead: str) -> None:
        self._node, self._buffer = node, TransformBuffer(tolerance_s=tolerance_s)
        self._warned: set[str] = set()
        self._missing = ""
        try:
            message_type = importlib.import_module("tf2_msgs.msg").TFMessage
        except ImportError:
            distro = os.environ.get("ROS_DISTRO", "DISTRO")
            self._missing = (
                f"/tf cannot be read, as tf2_msgs is not installed: sudo apt install ros-{distro}-tf2-msgs, "
                f"or set {instead}"
            )
            return
        latched = QoSProfile(
            depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        node.create_subscription(message_type, "/tf", lambda m: self.take(m, False), QoSProfile(depth=100))
        node.create_subscription(message_type, "/tf_static", lambda m: self.take(m, True), latched)

    def lookup(self, target: str, source: str, at_ns: int) -> tuple[Matrix, Matrix]:
        """As `TransformBuffer.lookup`.

        Raises:
            TransformError: there is no transform, or nobody who could tell.
        """
        if self._missing:
            raise TransformError(self._missing)
        return self._buffer.lookup(target, source, at_ns)

    def take(self, message: Any, is_static: bool) -> None:
        """Take a TFMessage, or anything with its `transforms`."""
        for transform in message.transforms:
            place, turn = transform.transform.translation, transform.transform.rotation
            complaint = self._buffer.set(
                transform.header.frame_id,
                transform.child_frame_id,
                stamp_ns(transform.header),
                (place.x, place.y, place.z),
                (turn.x, turn.y, turn.z, turn.w),
                is_static=is_static,
            )
            if complaint and complaint not in self._warned and len(self._warned) < 100:
                self._warned.add(complaint)
                self._node.get_logger().warning(f"ignored on /tf: {complaint}")
