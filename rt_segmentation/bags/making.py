"""Bags of images from elsewhere: a folder, with labels or without, a video, the synthetic street."""

from __future__ import annotations

from collections.abc import Iterable

from rt_segmentation.bags import messages
from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.data.sources import SourceImage

FRAME_ID = "camera"
MAX_STAMP_S = 2**31
"""ROS stamps count seconds in 32 bits."""


def make_bag(
    writer: BagWriter,
    images: Iterable[SourceImage],
    topic: str,
    label_topic: str,
    rate_hz: float,
    start_ns: int,
    compressed: str | None = None,
) -> int:
    """Write images, and their labels where they have some, as a camera would have published them.

    Args:
        writer: of the bag.
        images: in order.
        topic: of the images; with `compressed` '/compressed' is added.
        label_topic: of the labels, mono8 with the image's stamp.
        rate_hz: of the images.
        start_ns: stamp and recorded time of the first one [ns].
        compressed: 'jpeg', 'png' or None.

    Returns:
        How many images were written.

    Raises:
        BagError: the bag cannot be written, or a stamp is later than ROS knows.
    """
    count = 0
    for image in images:
        # Infinite at a rate of nearly 0.
        since_ns = count * 1e9 / rate_hz
        if start_ns + since_ns >= MAX_STAMP_S * 1e9:
            raise BagError(
                f"image {count + 1} would be of {(start_ns + since_ns) / 1e9:.10g} s after the epoch; ROS"
                f" stamps end at {MAX_STAMP_S} s"
            )
        stamp_ns = start_ns + round(since_ns)
        header = messages.header(writer.types, stamp_ns, FRAME_ID)
        if compressed is None:
            writer.write(topic, IMAGE, stamp_ns, messages.image(writer.types, header, image.rgb))
        else:
            content = messages.compressed_image(writer.types, header, image.rgb, compressed)
            writer.write(f"{topic}/compressed", COMPRESSED_IMAGE, stamp_ns, content)
        if image.labels is not None:
            writer.write(label_topic, IMAGE, stamp_ns, messages.image(writer.types, header, image.labels))
        count += 1
    return count
