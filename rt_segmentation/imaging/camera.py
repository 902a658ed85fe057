"""A calibrated camera: where its pixels look, and where points fall in its image."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.errors import ImageError

PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")
FISHEYE = "equidistant"
_MAX_COEFFICIENTS = 8


@dataclass(frozen=True)
class Camera:
    """The calibration of one size of image; pixel centres have whole coordinates.

    Attributes:
        width: [px]
        height: [px]
        fx: Focal length [px].
        fy: [px]
        cx: Principal point [px].
        cy: [px]
        distortion_model: As in ``sensor_msgs/CameraInfo``; without coefficients it does not matter.
        distortion: The coefficients of the model; empty for an image without distortion.

    Raises:
        ImageError: ``bad_calibration``.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (
            self.fx > 0 and self.fy > 0 and all(map(math.isfinite, (self.fx, self.fy, self.cx, self.cy)))
        ):
            raise ImageError(
                "bad_calibration",
                f"The camera_info has fx {self.fx:g}, fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g}; "
                "the camera must be calibrated, with focal lengths above 0.",
            )
        if self.distortion and self.distortion_model not in (*PINHOLE_MODELS, FISHEYE):
            raise ImageError(
                "bad_calibration",
                f"The camera_info's distortion model {self.distortion_model!r} is not known; known are "
                f"{', '.join((*PINHOLE_MODELS, FISHEYE))}.",
            )

    @classmethod
    def from_info(cls, info: Any, *, rectified: bool) -> Camera:
        """Reads the fields of a ``sensor_msgs/CameraInfo``.

        The message describes the whole sensor; binning and region of interest are taken off.

        Args:
            info: The message.
            rectified: Whether the image is rectified: P holds then, without a distortion, as in
                depth_image_proc (K where P is all zero). Otherwise K and D hold.

        Raises:
            ImageError: ``bad_calibration``: all is zero, as an uncalibrated driver sends it, or the model
                of distortion is not known.
        """
        k, p = list(info.k), list(info.p)
        fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if rectified and any(p) else (k[0], k[4], k[2], k[5])
        binning_x, binning_y = max(1, info.binning_x), max(1, info.binning_y)
        roi = info.roi
        distortion = () if rectified or not any(info.d) else tuple(map(float, info.d[:_MAX_COEFFICIENTS]))
        return cls(
            (roi.width or info.width) // binning_x,
            (roi.height or info.height) // binning_y,
            fx / binning_x,
            fy / binning_y,
            (cx - roi.x_offset) / binning_x,
            (cy - roi.y_offset) / binning_y,
            info.distortion_model,
            distortion,
        )

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """K, (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @functools.cached_property
    def rays(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Where each pixel looks: x and y at depth 1, each float32 (H, W); not to be written to."""
        size = (self.height, self.width)
        u, v = np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64)
        if not self.distortion:
            # A row of x and a column of y are all there is to know.
            x, y = ((u - self.cx) / self.fx).astype(np.float32), ((v - self.cy) / self.fy).astype(np.float32)
            return np.broadcast_to(x, size), np.broadcast_to(y[:, None], size)
        pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 1, 2)
        fisheye = self.distortion_model == FISHEYE
        coefficients = np.array(self.distortion[:4] if fisheye else self.distortion)
        undistort = cv2.fisheye.undistortPoints if fisheye else cv2.undistortPoints
        rays = np.asarray(undistort(pixels, self.matrix, coefficients), np.float32).reshape(*size, 2)
        return np.ascontiguousarray(rays[..., 0]), np.ascontiguousarray(rays[..., 1])

    @functools.cached_property
    def ray_lengths(self) -> npt.NDArray[np.float32]:
        """How far a point of depth 1 in each pixel is from the camera: float32 (H, W)."""
        x, y = self.rays
        return np.sqrt(x * x + y * y + np.float32(1))
