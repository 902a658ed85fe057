"""Image messages for bags: the twin of `ros.messages` for machines without ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.imaging.codec import encode_jpeg, encode_png

ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {"jpeg": encode_jpeg, "png": encode_png}


def header(types: Any, stamp_ns: int, frame_id: str) -> Any:
    """A std_msgs/Header; `types` is rosbags' store of message types (`BagWriter.types`)."""
    stamp = types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    return types.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def image(types: Any, header: Any, pixels: np.ndarray) -> Any:
    """An Image of uint8 (H, W) as mono8, or (H, W, 3) as rgb8."""
    return types.types[IMAGE](
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding="mono8" if pixels.ndim == 2 else "rgb8",
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def compressed_image(types: Any, header: Any, rgb: np.ndarray, kind: str = "jpeg") -> Any:
    """A CompressedImage of uint8 (H, W, 3) RGB; `kind` is one of `ENCODERS`."""
    return types.types[COMPRESSED_IMAGE](
        header=header,
        # As image_transport writes it for a colour image.
        format=f"rgb8; {kind} compressed bgr8",
        data=np.frombuffer(ENCODERS[kind](rgb), np.uint8),
    )
