"""What the node publishes of a frame: only what somebody listens to is computed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float64, Header

from rt_segmentation.imaging.codec import encode_jpeg, encode_png
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.render import colorize, overlay
from rt_segmentation.inference.segmenter import Segmentation
from rt_segmentation.labels import LabelSet
from rt_segmentation.ros.messages import (
    compressed_message,
    image_message,
    label_info_message,
    scaled_camera_info,
    stamp_ns,
)

# Reliable publishers serve reliable and best-effort subscribers alike.
OUTPUT_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
REMEMBERED_INFOS = 30


class Outputs:
    """The topics of one camera's masks.

    Args:
        node: the publishers' owner.
        labels: names and colours of the classes.
    """

    def __init__(self, node: Node, labels: LabelSet) -> None:
        self._node = node
        self._palette = labels.palette()
        self._infos: OrderedDict[int, CameraInfo] = OrderedDict()
        self._latest_info: CameraInfo | None = None
        types: dict[str, Any] = {
            "label": Image,
            "confidence": Image,
            "color": Image,
            "overlay": Image,
            "label/compressed": CompressedImage,
            "color/compressed": CompressedImage,
            "overlay/compressed": CompressedImage,
            "camera_info": CameraInfo,
            "latency_ms": Float64,
        }
        self._publishers = {
            name: node.create_publisher(kind, f"~/{name}", OUTPUT_QOS) for name, kind in types.items()
        }
        self._label_info: Any = None
        info = label_info_message(labels, Header(stamp=node.get_clock().now().to_msg()))
        if info is not None:
            self._label_info = node.create_publisher(type(info), "~/label_info", LATCHED_QOS)
            self._label_info.publish(info)

    def listened(self, *names: str) -> bool:
        """Whether anybody listens to one of the named outputs, or, without names, to any."""
        return any(self._publishers[name].get_subscription_count() > 0 for name in names or self._publishers)

    def remember(self, info: CameraInfo) -> None:
        """Keep a calibration for the image of the same stamp."""
        self._infos[stamp_ns(info.header)] = self._latest_info = info
        while len(self._infos) > REMEMBERED_INFOS:
            self._infos.popitem(last=False)

    def publish(
        self, header: Header, frame: Frame, segmentation: Segmentation, opacity: float, jpeg_quality: int
    ) -> float:
        """Publish what is listened to, under the frame's own header.

        Args:
            header: the camera message's: its stamp and frame_id go out unchanged.
            frame: the camera's image, for the overlay.
            segmentation: the frame's labels.
            opacity: of the overlay, 0 to 1.
            jpeg_quality: of compressed colours, 1 to 100.

        Returns:
            The time from the stamp to the end of publishing, on the node's clock [ms].
        """
        labels = segmentation.labels
        self._image("label", header, labels, "mono8")
        if self.listened("label/compressed"):
            self._send(
                "label/compressed", compressed_message(header, encode_png(labels), "mono8; png compressed ")
            )
        if segmentation.confidence is not None:
            self._image("confidence", header, segmentation.confidence, "mono8")
        if self.listened("color", "color/compressed"):
            self._picture("color", header, colorize(labels, self._palette), jpeg_quality)
        if self.listened("overlay", "overlay/compressed"):
            same_size = segmentation.rgb.shape[:2] == labels.shape
            rgb = segmentation.rgb if same_size else to_rgb(frame)
            self._picture("overlay", header, overlay(rgb, labels, self._palette, opacity), jpeg_quality)
        info = self._infos.get(stamp_ns(header), self._latest_info)
        if info is not None and self.listened("camera_info"):
            self._send("camera_info", scaled_camera_info(info, header, labels.shape[1], labels.shape[0]))
        latency_ms = (self._node.get_clock().now().nanoseconds - frame.stamp_ns) / 1e6
        if self.listened("latency_ms"):
            self._send("latency_ms", Float64(data=latency_ms))
        return latency_ms

    def close(self) -> None:
        """Take the topics away."""
        for publisher in (*self._publishers.values(), self._label_info):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def _picture(self, name: str, header: Header, rgb: np.ndarray, jpeg_quality: int) -> None:
        self._image(name, header, rgb, "rgb8")
        if self.listened(f"{name}/compressed"):
            data = encode_jpeg(rgb, jpeg_quality)
            self._send(f"{name}/compressed", compressed_message(header, data, "rgb8; jpeg compressed bgr8"))

    def _image(self, name: str, header: Header, array: np.ndarray, encoding: str) -> None:
        if self.listened(name):
            self._send(name, image_message(header, array, encoding))

    def _send(self, name: str, message: Any) -> None:
        self._publishers[name].publish(message)
