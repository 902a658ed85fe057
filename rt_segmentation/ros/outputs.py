"""What the node publishes of a frame: only what somebody listens to is computed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from rclpy.clock import ROSClock
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Float64, Header

from rt_segmentation.imaging.codec import encode_jpeg, encode_png
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.pictures import legend_table
from rt_segmentation.imaging.render import colorize, overlay
from rt_segmentation.inference.segmenter import Segmentation
from rt_segmentation.labels import LabelSet
from rt_segmentation.ros.diagnostics import stamp_problem
from rt_segmentation.ros.health import Health
from rt_segmentation.ros.messages import (
    ReusedImage,
    compressed_message,
    image_message,
    label_info_message,
    mask_camera_info,
    stamp_ns,
)
from rt_segmentation.ros.topics import FRAME_OUTPUTS, IMAGE, LABEL_INFO, LEGEND, publisher

REMEMBERED_INFOS = 30


class Outputs:
    """The topics of one camera's masks; frames are rendered and published by one thread.

    A frame is painted by the classes that it was segmented with, and `label_info` and `legend` follow them;
    where no frame comes, `tell` does.

    Args:
        node: the publishers' owner.
        labels: names and colours of the classes, for subscribers of `label_info` before the first frame.
        camera: stands in the topics' names before their own; empty for the only one.

    Attributes:
        stamp_problem: why the last frame's stamp told no latency, in a sentence; empty where it did.
        health: of the camera's images and of their masks.
        kept_ns: stamp of an image that was published before, and kept for the node [ns]: the next frame with
            it has no latency. None without one.
    """

    def __init__(self, node: Node, labels: LabelSet, camera: str = "") -> None:
        self.stamp_problem = ""
        self.health = Health()
        self.kept_ns: int | None = None
        self._node, self._camera = node, camera
        self._infos: OrderedDict[int, CameraInfo] = OrderedDict()
        self._latest_info: CameraInfo | None = None
        self._publishers = {topic.key: publisher(node, topic.of(camera)) for topic in FRAME_OUTPUTS}
        self._images = {t.key: ReusedImage(t.encoding) for t in FRAME_OUTPUTS if t.type == IMAGE}
        self._label_info: Any = None
        self._legend = publisher(node, LEGEND.of(camera))
        # Guards which classes were told last.
        self._telling = threading.Lock()
        self._use(labels)

    def listened(self, *names: str) -> bool:
        """Whether anybody listens to one of the named outputs, or, without names, to any."""
        return any(self._publishers[name].get_subscription_count() > 0 for name in names or self._publishers)

    @property
    def has_info(self) -> bool:
        """Whether a calibration has come."""
        return self._latest_info is not None

    def remember(self, info: CameraInfo) -> None:
        """Keep a calibration for the image of the same stamp."""
        self._infos[stamp_ns(info.header)] = self._latest_info = info
        while len(self._infos) > REMEMBERED_INFOS:
            self._infos.popitem(last=False)

    def resize(self, segmentation: Segmentation) -> Segmentation:
        """Look at a frame's results, and bring them to their size in the messages that they go out in."""
        self.health.look(segmentation)
        width, height = segmentation.placement.mask
        return segmentation.resized(
            self._images["label"].pixels(height, width),
            None if segmentation.confidence is None else self._images["confidence"].pixels(height, width),
        )

    def publish(
        self, header: Header, frame: Frame, segmentation: Segmentation, opacity: float, jpeg_quality: int
    ) -> float | None:
        """Publish what is listened to, under the frame's own header.

        Args:
            header: the camera message's: its stamp and frame_id go out unchanged.
            frame: the camera's image, for the overlay.
            segmentation: what `resize` gave for the frame.
            opacity: of the overlay, 0 to 1.
            jpeg_quality: of compressed colours, 1 to 100.

        Returns:
            The time from the stamp to the end of publishing, on the node's clock [ms]; None where the stamp
            does not tell it.
        """
        labels = segmentation.labels
        palette = self.tell(segmentation.label_set)
        # First, as cameras do: who has the mask has its calibration.
        info = self._infos.get(stamp_ns(header), self._latest_info)
        if info is not None and self.listened("camera_info"):
            self._send("camera_info", mask_camera_info(info, header, segmentation.placement))
        self._image("label", header)
        if self.listened("label/compressed"):
            self._send(
                "label/compressed", compressed_message(header, encode_png(labels), "mono8; png compressed ")
            )
        if segmentation.confidence is not None:
            self._image("confidence", header)
        if self.listened("color", "color/compressed"):
            rgb = self._images["color"].pixels(*labels.shape, 3)
            self._picture("color", header, colorize(labels, palette, rgb), jpeg_quality)
        if self.listened("overlay", "overlay/compressed"):
            placement = segmentation.placement
            is_shown = placement.is_direct and placement.network == placement.mask
            below = segmentation.rgb if is_shown else placement.to_mask(frame)
            rgb = self._images["overlay"].pixels(*labels.shape, 3)
            overlay(below, labels, palette, opacity, rgb)
            self._picture("overlay", header, rgb, jpeg_quality)
        if self.listened("drift") and (drift := self.health.drift) is not None:
            self._send("drift", Float64(data=drift))
        if frame.stamp_ns == self.kept_ns:
            self.stamp_problem, self.kept_ns = "", None
            return None
        clock = self._node.get_clock()
        now_ns = clock.now().nanoseconds
        sim_time = isinstance(clock, ROSClock) and clock.ros_time_is_active
        self.stamp_problem = stamp_problem(frame.stamp_ns, now_ns, sim_time)
        if self.stamp_problem:
            return None
        latency_ms = (now_ns - frame.stamp_ns) / 1e6
        if self.listened("latency_ms"):
            self._send("latency_ms", Float64(data=latency_ms))
        return latency_ms

    def tell(self, labels: LabelSet) -> np.ndarray:
        """Tell names and colours of the classes that masks have from now on, unless they were told last.

        Returns:
            The colours by id, uint8 (256, 3) RGB.
        """
        with self._telling:
            if labels is not self._label_set and labels != self._label_set:
                self._use(labels)
            return self._palette

    def close(self) -> None:
        """Take the topics away."""
        for made in (*self._publishers.values(), self._label_info, self._legend):
            if made is not None:
                self._node.destroy_publisher(made)
        self._publishers.clear()

    def _use(self, labels: LabelSet) -> None:
        """Tell the classes' names and colours."""
        self._label_set, self._palette = labels, labels.palette()
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._legend.publish(image_message(header, legend_table(labels), "rgb8"))
        info = label_info_message(labels, header)
        if info is None:
            return
        if self._label_info is None:
            self._label_info = publisher(self._node, LABEL_INFO.of(self._camera))
        self._label_info.publish(info)

    def _picture(self, name: str, header: Header, rgb: np.ndarray, jpeg_quality: int) -> None:
        self._image(name, header)
        if self.listened(f"{name}/compressed"):
            data = encode_jpeg(rgb, jpeg_quality)
            self._send(f"{name}/compressed", compressed_message(header, data, "rgb8; jpeg compressed bgr8"))

    def _image(self, name: str, header: Header) -> None:
        if self.listened(name):
            self._send(name, self._images[name].message(header))

    def _send(self, name: str, message: Any) -> None:
        self._publishers[name].publish(message)
