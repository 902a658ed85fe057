"""A camera's image as it arrived: views on the message's bytes, with its stamp and frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, not yet converted. Frames compare by identity, as their arrays have no single truth value.

    Attributes:
        planes: The pixels. One (H, W, 3) or (H, W, 4) uint8 plane for rgb8, bgr8, rgba8 and bgra8; (H, W)
            uint8 for mono8 and Bayer; the same shapes of uint16 in the message's byte order where the name
            ends with 16; (H, W, 2) uint8 for uyvy and yuyv; (H, W) luma and (H/2, W/2, 2) chroma for nv12 and
            nv21; (H, W) and (H, W, 2) for nv24. Rows may be padded, and the arrays are read-only where the
            message's bytes are.
        pixel_format: Canonical encoding name: one of ``sensor_msgs/image_encodings.hpp``, aliases resolved.
        width: [px]
        height: [px]
        stamp_ns: The source's stamp since the epoch [ns].
        frame_id: The source's coordinate frame.
    """

    planes: tuple[npt.NDArray[Any], ...]
    pixel_format: str
    width: int
    height: int
    stamp_ns: int
    frame_id: str
