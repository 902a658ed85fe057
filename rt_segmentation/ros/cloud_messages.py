"""PointCloud2 messages from and to arrays, and the messages that a cloud is made of."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import Floats, Labels, empty_cloud
from rt_segmentation.imaging.cloud_fields import FIELDS, POINT_STEP, view_depth, view_points
from rt_segmentation.imaging.codec import decode_image, view_samples
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.ros.messages import stamp_ns

KEPT_INFOS = 30


class ReusedCloud:
    """A PointCloud2 whose points are an array: written in place, allocated when the size changes."""

    def __init__(self) -> None:
        self._message = PointCloud2()
        self._points = empty_cloud(0, 0)

    def points(self, height: int, width: int) -> Floats:
        """The points, float32 (H, W, 8), with whatever they were before."""
        if self._points.shape[:2] != (height, width):
            self._message = cloud_message(empty_cloud(height, width), is_dense=False)
            self._points = np.frombuffer(self._message.data, np.float32).reshape(height, width, -1)
        return self._points

    def message(self, points: Floats) -> PointCloud2 | None:
        """The message of these points, to be published before they change; None if they are others."""
        return self._message if points is self._points else None


def cloud_message(cloud: Floats, *, is_dense: bool) -> PointCloud2:
    """A PointCloud2 of float32 (H, W, 8).

    Args:
        cloud: the points.
        is_dense: whether all have coordinates.
    """
    height, width = cloud.shape[:2]
    message = PointCloud2(
        height=height,
        width=width,
        fields=[PointField(name=name, offset=at, datatype=kind, count=1) for name, at, kind in FIELDS],
        is_bigendian=False,
        point_step=POINT_STEP,
        row_step=width * POINT_STEP,
        is_dense=is_dense,
    )
    # The one way that neither checks nor copies byte by byte in any distribution; it takes nothing empty.
    if cloud.size:
        message.data.frombytes(np.ascontiguousarray(cloud).data.cast("B"))
    return message


def mask_of(message: Image, what: str) -> Labels:
    """The pixels of a mono8 message, uint8 (H, W).

    Args:
        message: of labels or confidences.
        what: its name in a sentence.

    Raises:
        ImageError: another encoding, or the message is damaged.
    """
    if message.encoding not in ("mono8", "8UC1"):
        raise ImageError(
            "unknown_encoding", f"The {what}'s encoding is {message.encoding!r}; it must be mono8."
        )
    return np.asarray(
        view_samples(message.encoding, 1, message.width, message.height, message.step, False, message.data)
    )


def rgb_of(message: Image) -> Labels:
    """The pixels of a colour message, uint8 (H, W, 3) RGB.

    Raises:
        ImageError: an encoding that has no colours of 8 bits in one plane, or the message is damaged.
    """
    if message.encoding not in ("rgb8", "bgr8"):
        raise ImageError(
            "unknown_encoding",
            f"The colour image's encoding is {message.encoding!r}; it must be rgb8 or bgr8.",
        )
    image = message.encoding, message.width, message.height, message.step, False, message.data
    frame = decode_image(*image, smallest_px=1)
    pixels = frame.planes[0]
    return np.asarray(pixels if message.encoding == "rgb8" else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def depth_of(message: Image) -> Any:
    """As `view_depth`."""
    return view_depth(
        message.encoding,
        message.width,
        message.height,
        message.step,
        bool(message.is_bigendian),
        message.data,
    )


def points_of(message: PointCloud2) -> Floats:
    """As `view_points`."""
    return view_points(
        message.fields,
        message.width,
        message.height,
        message.point_step,
        message.row_step,
        bool(message.is_bigendian),
        message.data,
    )


class Calibrations:
    """The cameras of the last camera_infos; what is computed of one is kept until it changes.

    Args:
        rectified: as for `Camera.from_info`.
    """

    def __init__(self, rectified: bool) -> None:
        self._rectified = rectified
        # By stamp, the newest last: a camera that zooms, or nods, has another calibration in each frame.
        self._infos: dict[int, CameraInfo] = {}
        self._camera: Camera | None = None
        self._made_of: tuple[Any, ...] | None = None

    def take(self, info: CameraInfo) -> None:
        """Take a message."""
        at = stamp_ns(info.header)
        self._infos.pop(at, None)
        self._infos[at] = info
        if len(self._infos) > KEPT_INFOS:
            del self._infos[next(iter(self._infos))]

    def camera(self, at_ns: int) -> Camera | None:
        """The calibration of this stamp, else the newest; None before the first message.

        Raises:
            ImageError: the calibration is none.
        """
        if not self._infos:
            return None
        info = self._infos.get(at_ns) or next(reversed(self._infos.values()))
        numbers = _numbers(info)
        if self._camera is None or numbers != self._made_of:
            self._camera, self._made_of = None, numbers
            self._camera = Camera.from_info(info, rectified=self._rectified)
        return self._camera


def _numbers(info: CameraInfo) -> tuple[Any, ...]:
    """What a calibration says, whatever its header, to be compared.

    Messages are no help: in ROS 2 Humble before 2025 two are equal where any element of their arrays is.
    """
    whole = (info.width, info.height, info.distortion_model, info.binning_x, info.binning_y)
    roi = info.roi
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height, roi.do_rectify)
    return (*whole, *region, tuple(info.d), tuple(info.k), tuple(info.r), tuple(info.p))
