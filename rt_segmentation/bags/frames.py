"""From a bag's image messages to frames."""

from __future__ import annotations

from typing import Any

from rt_segmentation.bags.reading import Message
from rt_segmentation.imaging.codec import decode_compressed, decode_image
from rt_segmentation.imaging.frame import Frame

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
    return decode_image(
        content.encoding,
        content.width,
        content.height,
        content.step,
        bool(content.is_bigendian),
        content.data,
        **common,
    )
