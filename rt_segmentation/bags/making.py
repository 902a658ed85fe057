"""Bags of images from elsewhere: a folder, with labels or without, a video, the synthetic street."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.data.sources import SourceImage
from rt_segmentation.imaging.codec import encode_jpeg, encode_png

FRAME_ID = "camera"
FORMATS = {"jpeg": "rgb8; jpeg compressed bgr8", "png": "rgb8; png compressed bgr8"}
ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {"jpeg": encode_jpeg, "png": encode_png}


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
        BagError: the bag cannot be written.
    """
    count = 0
    for image in images:
        stamp_ns = start_ns + round(count * 1e9 / rate_hz)
        if compressed is None:
            writer.write(topic, IMAGE, stamp_ns, _image(writer, image.rgb, stamp_ns))
        else:
            content = writer.types.types[COMPRESSED_IMAGE](
                header=_header(writer, stamp_ns),
                format=FORMATS[compressed],
                data=np.frombuffer(ENCODERS[compressed](image.rgb), np.uint8),
            )
            writer.write(f"{topic}/compressed", COMPRESSED_IMAGE, stamp_ns, content)
        if image.labels is not None:
            writer.write(label_topic, IMAGE, stamp_ns, _image(writer, image.labels, stamp_ns))
        count += 1
    return count


def at_most(images: Iterable[SourceImage], frames: int | None) -> Iterable[SourceImage]:
    """The first frames of a source; all of them for None."""
    return images if frames is None else itertools.islice(images, frames)


def _header(writer: BagWriter, stamp_ns: int) -> Any:
    types = writer.types.types
    time = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    return types["std_msgs/msg/Header"](stamp=time, frame_id=FRAME_ID)


def _image(writer: BagWriter, pixels: np.ndarray, stamp_ns: int) -> Any:
    return writer.types.types[IMAGE](
        header=_header(writer, stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding="mono8" if pixels.ndim == 2 else "rgb8",
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=np.ascontiguousarray(pixels).reshape(-1),
    )
