"""A camera without a camera: publishes a folder of images, a video, or the synthetic street."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import array
import importlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rt_segmentation.data.sources import Geometry, ImageSource, SourceError, SourceImage, open_source
from rt_segmentation.imaging.codec import encode_jpeg
from rt_segmentation.ros.camera_parameters import PARAMETERS
from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.guarded import GuardedNode
from rt_segmentation.ros.logging_bridge import log_through
from rt_segmentation.ros.process import Process, run_node
from rt_segmentation.ros.services import answer_always
from rt_segmentation.ros.tables import NAMES
from rt_segmentation.ros.usage import answered
from rt_segmentation.runtime.read_ahead import ReadAhead

NODE_NAME = "camera_node"
ABOUT = "Publishes a folder of images, a video, or a synthetic street as a camera would."
# Fast DDS asks for acknowledgments, and sends again what was lost, every 3 s.
ACKNOWLEDGED_S = 5.0
# Nobody acknowledges best-effort images, and what lies unread in a writer's shared memory goes with it.
UNREAD_S = 2.0
# A match is known here before it is there; an image sent in between would arrive with the next repetition.
SETTLE_S = 0.3
READ_AHEAD = 4
CLOSE_TIMEOUT_S = 1.0
# After so long somebody is told that a simulation's time is not there.
CLOCK_S = 2.0
# A quaternion x, y, z, w: from the optical axes (z ahead, x right) to the robot's (x ahead, z up).
OPTICAL = (-0.5, 0.5, -0.5, 0.5)


class _Picture(NamedTuple):
    """What is published of one image: pixels or a JPEG file's bytes, the labels, and the geometry.

    `depth` is None where it is not known or nobody listens.
    """

    data: np.ndarray
    width: int
    height: int
    labels: np.ndarray | None
    geometry: Geometry | None
    depth: np.ndarray | None


class CameraNode(GuardedNode):
    """Publishes `image` or `image/compressed`, `camera_info` and, where known, true `label` and `depth`.

    The messages of an image share their stamp, from the node's clock, and their frame_id. Where the camera's
    place is known, it is on /tf_static.

    Args:
        process: that it lives in.

    Attributes:
        published: Images published so far.
        failed: Never: what keeps it from its start is raised by `start`.

    Raises:
        ParameterError: a parameter is unknown or has a bad value.
    """

    failed = False

    def __init__(self, process: Process) -> None:
        super().__init__(NODE_NAME)
        self._process = process
        log_through(self.get_logger())
        refuse_unknown(self, PARAMETERS, NODE_NAME, NAMES)
        declare(self, PARAMETERS)
        self._settings = values(self, PARAMETERS)
        self.published = 0
        # Whether `count` is reached or the source is over, and when.
        self._over = False
        self._last_s = 0.0
        self._awaited = self._settings["wait_for_subscribers"]
        self._start_s = 0.0
        self._late = 0
        self._pictures: ReadAhead[_Picture] | None = None
        answer_always(self)

    def _warn(self, message: str) -> None:
        self.get_logger().warning(message)

    def _create_publishers(self, source: ImageSource) -> None:
        reliability = ReliabilityPolicy[self._settings["reliability"].upper()]
        qos = QoSProfile(depth=self._settings["queue_depth"], reliability=reliability)
        self._image: Publisher[Image] | None = None
        self._compressed: Publisher[CompressedImage] | None = None
        if self._settings["image_transport"] == "raw":
            self._image = self.create_publisher(Image, "image", qos)
        else:
            # One remap of `image` moves both transports, as with image_transport.
            topic = self.resolve_topic_name("image") + "/compressed"
            self._compressed = self.create_publisher(CompressedImage, topic, qos)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos)
        self._label = self.create_publisher(Image, "label", qos) if source.has_labels else None
        # The messages live as long as the node: their buffers are filled anew, not allocated, each time.
        encoding = self._settings["encoding"]
        self._image_message = Image(encoding=encoding)
        inside = "" if encoding == "mono8" else "bgr8"
        self._compressed_message = CompressedImage(format=f"{encoding}; jpeg compressed {inside}")
        self._label_message = Image(encoding="mono8")
        self._depth: Publisher[Image] | None = None
        if source.camera_height_m is not None:
            self._depth = self.create_publisher(Image, "depth", qos)
            self._tell_place(source.camera_height_m)
        self._depth_message = Image(encoding="32FC1")

    def _tell_place(self, height_m: float) -> None:
        """Say where the camera is on the robot, once and for all, where tf2_msgs is installed."""
        message = camera_place(
            self._settings["base_frame_id"],
            self._settings["frame_id"],
            height_m,
            self.get_clock().now().to_msg(),
        )
        if message is None or not self._settings["base_frame_id"]:
            return
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_publisher(type(message), "/tf_static", latched).publish(message)

    @property
    def publishers_of_frames(self) -> list[Publisher[Any]]:
        """The publishers of image, camera_info, label and depth."""
        all_of_them = (self._image, self._compressed, self._info, self._label, self._depth)
        return [p for p in all_of_them if p is not None]

    @property
    def finished(self) -> bool:
        """Whether all is published, and the subscribers have acknowledged it or had time to read it."""
        if not self._over:
            return False
        if self._settings["reliability"] == "best_effort":
            return time.monotonic() > self._last_s + UNREAD_S
        return time.monotonic() > self._last_s + ACKNOWLEDGED_S or all(
            publisher.wait_for_all_acked(Duration(seconds=0.0)) for publisher in self.publishers_of_frames
        )

    def start(self) -> None:
        """Open the source and make the topics; the timer publishes as soon as the node is spun.

        Raises:
            SourceError: there is no such source.
            Interrupted: a signal came while it was opened: a folder on another computer may take its time.
        """
        settings = self._settings
        source = self._process.run_interruptibly(
            lambda: open_source(
                settings["source"],
                settings["labels"],
                seed=settings["seed"],
                width=settings["width"],
                height=settings["height"],
                rate_hz=settings["rate_hz"],
                image_bits=settings["image_bits"],
                on_warning=self._warn,
            )
        )
        self._create_publishers(source)
        self._pictures = ReadAhead(self._prepared(source), READ_AHEAD)
        self.create_timer(1.0 / settings["rate_hz"], self._publish_next)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._clock_check = self.create_timer(CLOCK_S, self._check_clock, clock=steady)
        topics = ", ".join(publisher.topic_name for publisher in self.publishers_of_frames)
        self.get_logger().info(
            f"publishing {source.text} at {settings['rate_hz']:g} Hz on {topics} "
            f"({settings['image_transport']} {settings['encoding']}, {settings['reliability']})"
        )

    def _check_clock(self) -> None:
        """Once: a simulation's time that does not begin stops the timer of the images."""
        self.destroy_timer(self._clock_check)
        if self.get_clock().now().nanoseconds == 0:
            self.get_logger().warning(
                "no image is published yet: use_sim_time is true, and nobody publishes the time on /clock"
            )

    def close(self) -> bool:
        """Stop reading the source and say how many images were published."""
        if self._pictures is None:
            return True
        self._pictures.close(CLOSE_TIMEOUT_S)
        self.get_logger().info(f"published {self.published} frames")
        print(f"published {self.published} frames", flush=True)
        return True

    def _prepared(self, source: ImageSource) -> Iterator[_Picture]:
        while True:
            is_empty = True
            for image in source:
                is_empty = False
                yield self._picture(image)
            if not self._settings["loop"]:
                return
            if is_empty:
                raise SourceError(f"{source.text} gives no image any more")

    def _picture(self, image: SourceImage) -> _Picture:
        height, width = image.rgb.shape[:2]
        encoding = self._settings["encoding"]
        pixels = image.rgb
        if encoding == "mono8":
            pixels = cv2.cvtColor(image.rgb, cv2.COLOR_RGB2GRAY)
        elif encoding == "bgr8" and self._image is not None:
            pixels = cv2.cvtColor(image.rgb, cv2.COLOR_RGB2BGR)
        if self._compressed is not None:
            pixels = np.frombuffer(encode_jpeg(pixels, self._settings["jpeg_quality"]), np.uint8)
        depth = None
        # An image is prepared a few ahead: the first ones after somebody begins to listen have none.
        if image.geometry is not None and self._depth is not None and self._depth.get_subscription_count():
            depth = image.geometry.depth()
        return _Picture(pixels, width, height, image.labels, image.geometry, depth)

    def _publish_next(self) -> None:
        if self._pictures is None or self._over or not self._subscribers_are_there():
            return
        picture = self._pictures.take()
        if picture is None:
            self._over = self._pictures.over
            if not self._over and self.published:
                self._late += 1
                self.get_logger().warning(
                    f"the source is too slow for {self._settings['rate_hz']:g} Hz: {self._late} images late",
                    throttle_duration_sec=5.0,
                )
            return
        self._publish(picture)
        self.published += 1
        self._last_s = time.monotonic()
        self._over = self.published == self._settings["count"]

    def _subscribers_are_there(self) -> bool:
        images = self._image or self._compressed
        if self._awaited and images is not None and images.get_subscription_count() >= self._awaited:
            self._awaited = 0
            self._start_s = time.monotonic() + SETTLE_S
        return not self._awaited and time.monotonic() >= self._start_s

    def _publish(self, picture: _Picture) -> None:
        stamp = self.get_clock().now().to_msg()
        frame_id = self._settings["frame_id"]
        info = camera_info(
            picture.width, picture.height, self._settings["horizontal_fov_deg"], picture.geometry
        )
        info.header.stamp, info.header.frame_id = stamp, frame_id
        self._info.publish(info)
        # The image comes last: who has it has the rest.
        if self._label is not None and picture.labels is not None:
            _fill_image(self._label_message, picture.labels)
            self._label_message.header = info.header
            self._label.publish(self._label_message)
        if self._depth is not None and picture.depth is not None:
            _fill_image(self._depth_message, picture.depth)
            self._depth_message.header = info.header
            self._depth.publish(self._depth_message)
        if self._image is not None:
            _fill_image(self._image_message, picture.data)
            self._image_message.header = info.header
            self._image.publish(self._image_message)
        if self._compressed is not None:
            _fill(self._compressed_message.data, picture.data)
            self._compressed_message.header = info.header
            self._compressed.publish(self._compressed_message)


def camera_info(
    width: int, height: int, horizontal_fov_deg: float, geometry: Geometry | None = None
) -> CameraInfo:
    """An ideal camera's calibration: square pixels, no distortion, the axis through the image's centre.

    Args:
        width: [px]
        height: [px]
        horizontal_fov_deg: [deg], between the outer edges of the first and the last column.
        geometry: what is known of the camera; it goes before the field of view.
    """
    focal = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
    # Pixel centres have whole coordinates (REP-104's calibration is OpenCV's).
    cx, cy = (width - 1) / 2, (height - 1) / 2
    if geometry is not None:
        focal, cx, cy = geometry.focal_px, geometry.cx, geometry.cy
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def camera_place(base_frame: str, camera_frame: str, height_m: float, stamp: Any) -> Any | None:
    """A camera that looks ahead from over the robot's middle, as a TFMessage; None without tf2_msgs.

    Args:
        base_frame: the robot's, x ahead and z up (REP-103).
        camera_frame: the camera's optical frame, z ahead and x to the right.
        height_m: of the camera over the base frame [m].
        stamp: of the message.
    """
    try:
        messages = importlib.import_module("tf2_msgs.msg")
    except ImportError:
        return None
    transform = TransformStamped(child_frame_id=camera_frame)
    transform.header.stamp, transform.header.frame_id = stamp, base_frame
    transform.transform.translation.z = height_m
    turn = transform.transform.rotation
    turn.x, turn.y, turn.z, turn.w = OPTICAL
    return messages.TFMessage(transforms=[transform])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is finished or interrupted; see `run_node` for the exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = answered(NODE_NAME, ABOUT, PARAMETERS, arguments)
    return run_node(NODE_NAME, CameraNode, arguments) if status is None else status


def _fill_image(message: Image, pixels: np.ndarray) -> None:
    """Put uint8 (H, W) or (H, W, 3), or float32 (H, W), pixels into a message."""
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.nbytes // message.height
    _fill(message.data, pixels)


def _fill(data: array.array[int], content: np.ndarray) -> None:
    """Overwrite a message's bytes; assigning to the field would check or copy them one by one."""
    if len(data) == content.nbytes:
        np.frombuffer(data, np.uint8)[:] = content.reshape(-1).view(np.uint8)
    else:
        del data[:]
        data.frombytes(np.ascontiguousarray(content).data.cast("B"))


if __name__ == "__main__":
    sys.exit(main())
