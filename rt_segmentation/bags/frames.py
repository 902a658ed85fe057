"""From a bag's image messages to frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rt_segmentation.bags.reading import Message
from rt_segmentation.imaging.codec import decode_compressed, decode_image
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.label_images import decode_label_file, decode_raw_labels

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def to_frame(message: Message) -> Frame:
    """View an Image or CompressedImage of a bag as a frame, by the codec that the node uses.

    Raises:
        ImageError: the image is damaged, or its encoding is unknown.
    """
    content = message.content
    stamp = content.header.stamp
    common: dict[str, Any] = {
        "stamp_ns": int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec),
        "frame_id": content.header.frame_id,
    }
    if message.type == COMPRESSED_IMAGE:
        return decode_compressed(content.format, content.data, **common)
    return decode_image(*_fields(content), **common)


def to_labels(message: Message) -> npt.NDArray[np.uint8]:
    """Read an Image or CompressedImage of a bag as a label image, uint8 (H, W): ids as they were stored.

    Raises:
        ImageError: the image is damaged, or is no label image: JPEG and lossy WebP change ids.
    """
    content = message.content
    if message.type == COMPRESSED_IMAGE:
        return decode_label_file(content.data)
    return decode_raw_labels(*_fields(content))


def _fields(image: Any) -> tuple[str, int, int, int, bool, Any]:
    return (
        image.encoding,
        image.width,
        image.height,
        image.step,
        bool(image.is_bigendian),
        image.data,
    )
