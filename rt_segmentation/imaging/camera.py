"""A calibrated camera: where its pixels look, and where points fall in its image."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.lens import FISHEYE, Lens

PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")


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
        tx: Fourth column of P [px m], 0 but for the second camera of a stereo pair: P projects points of the
            first one's frame.
        ty: [px m]

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
    tx: float = 0.0
    ty: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ImageError(
                "bad_calibration",
                f"The camera_info is of {self.width}x{self.height} px; its width and height must be above 0.",
            )
        if not (
            self.fx >= 1 and self.fy >= 1 and all(map(math.isfinite, (self.fx, self.fy, self.cx, self.cy)))
        ):
            raise ImageError(
                "bad_calibration",
                f"The camera_info has fx {self.fx:g}, fy {self.fy:g}, cx {self.cx:g}, cy {self.cy:g}; "
                "the camera must be calibrated, with focal lengths of 1 px or more.",
            )
        if not (math.isfinite(self.tx) and math.isfinite(self.ty)):
            raise ImageError(
                "bad_calibration",
                f"The camera_info's P has {self.tx:g} and {self.ty:g} in its fourth column; they must be "
                "finite, and are 0 but for the second camera of a stereo pair.",
            )
        if not all(map(math.isfinite, self.distortion)):
            raise ImageError(
                "bad_calibration",
                f"The camera_info's distortion is {', '.join(f'{value:g}' for value in self.distortion)}; "
                "its coefficients must be finite.",
            )
        if self.distortion and self.distortion_model not in (*PINHOLE_MODELS, FISHEYE):
            raise ImageError(
                "bad_calibration",
                f"The camera_info's distortion model {self.distortion_model!r} is not known; known are "
                f"{', '.join((*PINHOLE_MODELS, FISHEYE))}.",
            )
        known = self._lens.known_coefficients
        if any(self.distortion[known:]):
            raise ImageError(
                "bad_calibration",
                f"The camera_info's distortion has {len(self.distortion)} coefficients, and the model "
                f"{self.distortion_model!r} is known up to its {known}th; the others must be 0.",
            )

    @classmethod
    def from_info(cls, info: Any, *, rectified: bool) -> Camera:
        """Reads the fields of a ``sensor_msgs/CameraInfo``.

        The message describes the whole sensor; binning and region of interest are taken off.

        Args:
            info: The message.
            rectified: Whether the image is rectified: P holds then, without a distortion and with its fourth
                column, as in image_geometry (K where P is all zero). Otherwise K and D hold.

        Raises:
            ImageError: ``bad_calibration``: all is zero, as an uncalibrated driver sends it, the model of
                distortion is not known, or the region of interest is not within the sensor.
        """
        k, p = list(info.k), list(info.p)
        by_p = rectified and any(p)
        fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if by_p else (k[0], k[4], k[2], k[5])
        tx, ty = (p[3], p[7]) if by_p else (0.0, 0.0)
        binning_x, binning_y = max(1, info.binning_x), max(1, info.binning_y)
        roi = info.roi
        for side, begin, length, whole in (
            ("width", roi.x_offset, roi.width, info.width * binning_x),
            ("height", roi.y_offset, roi.height, info.height * binning_y),
        ):
            # Some drivers give the size after binning.
            if length and begin + length > whole:
                raise ImageError(
                    "bad_calibration",
                    f"The camera_info's region of interest ends at {begin + length} px of a {side} of "
                    f"{whole} px; it must be within the sensor.",
                )
        distortion = () if rectified or not any(info.d) else tuple(map(float, info.d))
        return cls(
            (roi.width or info.width) // binning_x,
            (roi.height or info.height) // binning_y,
            fx / binning_x,
            fy / binning_y,
            (cx - roi.x_offset) / binning_x,
            (cy - roi.y_offset) / binning_y,
            info.distortion_model,
            distortion,
            # A region moves the principal point alone: u - x_offset is (fx X + tx) / Z + cx - x_offset.
            tx / binning_x,
            ty / binning_y,
        )

    def check_mask(self, labels: npt.NDArray[np.uint8]) -> None:
        """Refuses a mask, uint8 (H, W), that is not of the calibration's size.

        Raises:
            ImageError: ``bad_size``.
        """
        if (self.width, self.height) != labels.shape[::-1]:
            raise ImageError(
                "bad_size",
                f"The camera_info is of {self.width}x{self.height} px and the mask of "
                f"{labels.shape[1]}x{labels.shape[0]} px; give the node the mask's own camera_info.",
            )

    @functools.cached_property
    def _lens(self) -> Lens:
        return Lens(self.distortion_model, self.distortion)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """K, (3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where the camera is in its camera_info's frame [m]: beside the origin, the second of a stereo pair.

        P is [K | t], and this is -K^-1 t. Rays begin here; image_geometry's `projectPixelTo3dRay` gives the
        same points at depth 1, and rviz puts its camera here.
        """
        return -self.tx / self.fx, -self.ty / self.fy, 0.0

    @functools.cached_property
    def rays(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Where each pixel looks: x and y at depth 1 from the `centre`, float32 (H, W); not to be written to.

        NaN where it looks nowhere: the lens's polynomial has turned back, or that is beside the camera.
        """
        size = (self.height, self.width)
        u = (np.arange(self.width, dtype=np.float64) - self.cx) / self.fx
        v = (np.arange(self.height, dtype=np.float64) - self.cy) / self.fy
        if not self.distortion:
            # A row of x and a column of y are all there is to know.
            x, y = u.astype(np.float32), v.astype(np.float32)
            return np.broadcast_to(x, size), np.broadcast_to(y[:, None], size)
        x, y = self._lens.undistort(*np.meshgrid(u, v), (1 / self.fx, 1 / self.fy))
        return x.astype(np.float32), y.astype(np.float32)

    @functools.cached_property
    def seeing(self) -> npt.NDArray[np.uint8] | None:
        """255 for a pixel that looks somewhere and 0 for others, uint8 (H, W); None where all do."""
        if not self.distortion:
            return None
        seeing = np.isfinite(self.rays[0])
        return None if seeing.all() else seeing.astype(np.uint8) * np.uint8(255)

    @functools.cached_property
    def ray_lengths(self) -> npt.NDArray[np.float32]:
        """How far a point of depth 1 in each pixel is from the camera: float32 (H, W)."""
        x, y = self.rays
        return np.asarray(np.sqrt(x * x + y * y + np.float32(1)), np.float32)

    def pixels_of(
        self, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], z: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Which pixels see points, with the lens's distortion.

        Args:
            x: To the right of the `centre` [m], float32 of any shape, as are y (down) and z (forward).
            y: [m]
            z: [m]

        Returns:
            Row and column, int32, and whether there is such a pixel, bool; of the rest the row and column
            mean nothing.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            a, b = x / z, y / z
            inside = z > 0
            if self.distortion:
                # Far outside the image a lens's polynomial turns back into it.
                inside &= a * a + b * b < np.float32(self._ray_limit**2)
                a, b = self._lens.distort(a, b)
            u, v = (
                a * np.float32(self.fx) + np.float32(self.cx),
                b * np.float32(self.fy) + np.float32(self.cy),
            )
            # NaN is in no interval.
            inside &= (u > -0.5) & (u < self.width - 0.5) & (v > -0.5) & (v < self.height - 0.5)
            # Truncation rounds to the nearest where a half is added, as no coordinate is below -0.5.
            return (v + np.float32(0.5)).astype(np.int32), (u + np.float32(0.5)).astype(np.int32), inside

    @functools.cached_property
    def _ray_limit(self) -> float:
        """How far from the axis the image's farthest pixel looks, with a pixel more: at depth 1."""
        x, y = self.rays
        farthest = float(np.fmax.reduce(np.hypot(x, y), axis=None, initial=0.0))
        return self._lens.limit(farthest, 1 / min(self.fx, self.fy))
