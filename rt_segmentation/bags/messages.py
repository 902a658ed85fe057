"""Image messages for bags: the twin of `ros.messages` for machines without ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.imaging.cloud_fields import FIELDS, POINT_STEP
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


def cloud(types: Any, header: Any, points: npt.NDArray[np.float32]) -> Any:
    """A PointCloud2 of a labelled cloud, float32 (H, W, 8)."""
    field = types.types["sensor_msgs/msg/PointField"]
    height, width = points.shape[:2]
    return types.types["sensor_msgs/msg/PointCloud2"](
        header=header,
        height=height,
        width=width,
        fields=[field(name=name, offset=at, datatype=kind, count=1) for name, at, kind in FIELDS],
        is_bigendian=False,
        point_step=POINT_STEP,
        row_step=width * POINT_STEP,
        data=np.ascontiguousarray(points).view(np.uint8).reshape(-1),
        is_dense=False,
    )


def compressed_image(types: Any, header: Any, rgb: np.ndarray, kind: str = "jpeg") -> Any:
    """A CompressedImage of uint8 (H, W, 3) RGB; `kind` is one of `ENCODERS`."""
    return types.types[COMPRESSED_IMAGE](
        header=header,
        # As image_transport writes it for a colour image.
        format=f"rgb8; {kind} compressed bgr8",
        data=np.frombuffer(ENCODERS[kind](rgb), np.uint8),
    )
