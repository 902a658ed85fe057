"""Messages from and to plain data: images, labels, scaled calibrations."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from rt_segmentation.imaging import native_messages
from rt_segmentation.imaging.codec import decode_compressed, decode_image, is_matrix_type
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.imaging.placement import Calibration, Placement
from rt_segmentation.labels import LabelSet


def stamp_ns(header: Header) -> int:
    """A header's stamp in nanoseconds since the epoch."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def to_frame(message: Image | CompressedImage) -> Frame:
    """View a camera message as a frame; an encoding that is not ours goes to cv_bridge, if it is installed.

    Raises:
        ImageError: the message is damaged, or nobody knows its encoding.
    """
    common: dict[str, Any] = {"stamp_ns": stamp_ns(message.header), "frame_id": message.header.frame_id}
    if isinstance(message, CompressedImage):
        with native_messages.logged():
            return decode_compressed(message.format, message.data, **common)
    try:
        return decode_image(
            message.encoding,
            message.width,
            message.height,
            message.step,
            bool(message.is_bigendian),
            message.data,
            **common,
        )
    except ImageError as error:
        # cv_bridge makes no colours of OpenCV's own types.
        if error.reason != "unknown_encoding" or is_matrix_type(message.encoding):
            raise
        return _through_cv_bridge(message, error, common)


def _through_cv_bridge(message: Image, unknown: ImageError, common: dict[str, Any]) -> Frame:
    try:
        bridge = importlib.import_module("cv_bridge").CvBridge()
    except ImportError:
        raise ImageError(unknown.reason, f"{unknown} With cv_bridge installed there are more.") from None
    try:
        rgb = np.ascontiguousarray(bridge.imgmsg_to_cv2(message, desired_encoding="rgb8"))
    # cv_bridge raises its own error, OpenCV's, or Python's, depending on what is wrong.
    except Exception as error:
        raise ImageError(
            unknown.reason, f"{unknown} cv_bridge does not convert it either: {error}"
        ) from error
    return Frame((rgb,), "rgb8", message.width, message.height, **common)


def image_message(header: Header, array: np.ndarray, encoding: str) -> Image:
    """An Image of uint8 (H, W) or (H, W, 3)."""
    message = Image(header=header, encoding=encoding)
    message.height, message.width = array.shape[:2]
    message.step = array.nbytes // array.shape[0]
    # The one way that neither checks nor copies byte by byte in any distribution.
    message.data.frombytes(np.ascontiguousarray(array).data)
    return message


class ReusedImage:
    """An Image message whose pixels are an array: written in place, allocated when the size changes."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._message = Image()
        self._pixels: np.ndarray = np.empty(0, np.uint8)

    def pixels(self, *shape: int) -> np.ndarray:
        """The pixels, uint8 of the shape (H, W) or (H, W, 3), with whatever they were before."""
        if self._pixels.shape != shape:
            self._message = image_message(Header(), np.zeros(shape, np.uint8), self._encoding)
            self._pixels = np.frombuffer(self._message.data, np.uint8).reshape(shape)
        return self._pixels

    def message(self, header: Header) -> Image:
        """The message under a header; it must be published before the pixels change."""
        self._message.header = header
        return self._message


def compressed_message(header: Header, data: bytes, image_format: str) -> CompressedImage:
    """A CompressedImage of an encoded file."""
    message = CompressedImage(header=header, format=image_format)
    message.data.frombytes(data)
    return message


def mask_camera_info(info: CameraInfo, header: Header, placement: Placement) -> CameraInfo:
    """The calibration of a mask: to the mask what the camera's own is to its image.

    Args:
        info: the camera's; a mask that covers its image pixel by pixel gets it unchanged.
        header: the mask's.
        placement: of the mask in the camera's image.
    """
    roi = Region(info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height)
    binning = info.binning_x, info.binning_y
    camera = Calibration((info.width, info.height), tuple(info.k), tuple(info.p), binning, roi)
    mask = placement.calibration(camera)
    result = copy.copy(info)
    result.header = header
    if mask == camera:
        return result
    result.width, result.height = mask.size
    result.k, result.p = mask.k, mask.p
    # A part of the image alone has a part of its own in the rectified image, too.
    is_part = placement.cover.size != placement.image
    result.roi = RegionOfInterest(
        x_offset=mask.roi.x,
        y_offset=mask.roi.y,
        width=mask.roi.width,
        height=mask.roi.height,
        do_rectify=is_part or info.roi.do_rectify,
    )
    return result


def label_info_message(labels: LabelSet, header: Header) -> Any | None:
    """A vision_msgs/LabelInfo with the names of the classes, or None where vision_msgs is not installed."""
    try:
        messages = importlib.import_module("vision_msgs.msg")
    except ImportError:
        return None
    message = messages.LabelInfo(header=header)
    message.class_map = [messages.VisionClass(class_id=c.id, class_name=c.name) for c in labels.classes]
    return message
