"""A camera's image as it arrived: views on the message's bytes, with its stamp and frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.errors import ImageError

Size: TypeAlias = "tuple[int, int]"
"""Width and height [px]."""


class Region(NamedTuple):
    """A rectangle of an image's pixels: its first column and row, and its sides [px]."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        """(width, height) [px]."""
        return self.width, self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index an array (H, W, ...) with."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


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

    @classmethod
    def from_rgb(cls, rgb: npt.NDArray[Any], stamp_ns: int = 0, frame_id: str = "") -> Frame:
        """Wrap an RGB image, uint8 (H, W, 3), or a gray one, uint8 (H, W).

        The pixels are copied only where they do not lie side by side, as in ``bgr[..., ::-1]``.

        Raises:
            ImageError: the array has another shape or type.
        """
        image: Any = rgb
        if not isinstance(image, np.ndarray):
            raise ImageError(
                "undecodable", f"an image must be a NumPy array, uint8 (H, W, 3) RGB, and is {_kind(image)}"
            )
        gray = image.ndim == 2
        if (
            image.dtype != np.uint8
            or not (gray or (image.ndim == 3 and image.shape[2] == 3))
            or not image.size
        ):
            raise ImageError(
                "undecodable",
                "an image must be uint8 (H, W, 3) RGB, or uint8 (H, W) gray, and is"
                f" {image.dtype} {image.shape}",
            )
        height, width = image.shape[:2]
        return cls(
            (np.ascontiguousarray(image),), "mono8" if gray else "rgb8", width, height, stamp_ns, frame_id
        )


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
