"""How a lens bends what it sees: the distortion models of ``sensor_msgs/CameraInfo``, there and back."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FISHEYE = "equidistant"
# Of a fisheye k1 to k4; of the others k1, k2, p1, p2, k3 to k6, and s1 to s4 of a thin prism.
_FISHEYE_COEFFICIENTS, _COEFFICIENTS = 4, 12
# What is farther to the side has no pixel: 88.9 degrees. A fisheye's image may go on beyond 90.
_FARTHEST_RAY = 50.0
_SAMPLES = 20_001
_ROUNDS, _SMALL = 20, 1e-6
# So far may a ray's own pixel be from the one that it was found for.
_TOLERANCE_PX = 0.05


@dataclass(frozen=True)
class Lens:
    """A distortion: what is at x and y at depth 1 is seen at other x and y, in focal lengths.

    Away from the centre a polynomial turns back sooner or later: from there on it puts two places into
    one pixel. A lens does not; such places are not seen, and such pixels see nothing.

    Attributes:
        model: ``equidistant``, or any name for the polynomials of OpenCV's pinhole camera.
        coefficients: those of OpenCV; what is left out is 0.
    """

    model: str
    coefficients: tuple[float, ...]

    @property
    def known_coefficients(self) -> int:
        """How many coefficients the model has; those after them mean nothing here."""
        return _FISHEYE_COEFFICIENTS if self.model == FISHEYE else _COEFFICIENTS

    @functools.cached_property
    def _all(self) -> tuple[Any, ...]:
        """As many as the model has, in single precision, which leaves an array's precision as it is."""
        count = self.known_coefficients
        return tuple(map(np.float32, (*self.coefficients, *[0.0] * count)[:count]))

    def distort(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Where the lens puts what is at x and y at depth 1: floating-point arrays of one shape."""
        square = x * x + y * y
        if self.model == FISHEYE:
            radius = np.sqrt(square)
            scale = np.where(radius > 1e-8, self._radial(radius) / np.maximum(radius, np.float32(1e-8)), 1)
            scale = scale.astype(x.dtype)
            return x * scale, y * scale
        scale = self._scale(square)
        side, down = self._beside(x, y, square)
        return x * scale + side, y * scale + down

    def undistort(self, x: Any, y: Any, pixel: tuple[float, float]) -> tuple[Any, Any]:
        """Where the lens looks at x and y of its image: at depth 1, float64, NaN where nowhere.

        Args:
            x: float64 of any shape.
            y: Likewise.
            pixel: Width and height of a pixel, in focal lengths.
        """
        radii, bent = self._monotone
        ray_x, ray_y = np.full(x.size, np.nan), np.full(y.size, np.nan)
        # Without what is not radial the answer stands in a table. That is small, and found in rounds, each of
        # those alone that are not found yet.
        open_, aim_x, aim_y = np.arange(x.size), x.reshape(-1), y.reshape(-1)
        side = down = np.zeros(x.size)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for _ in range(_ROUNDS):
                aim = np.hypot(aim_x, aim_y)
                scale = np.where(aim > 0, np.interp(aim, bent, radii, right=np.nan) / aim, 1.0)
                own_x, own_y = aim_x * scale, aim_y * scale
                ray_x[open_], ray_y[open_] = own_x, own_y
                if self._is_radial:
                    break
                before = side, down
                side, down = self._beside(own_x, own_y, own_x * own_x + own_y * own_y)
                moved = abs(side - before[0]) + abs(down - before[1]) > _SMALL
                open_, side, down = open_[moved], side[moved], down[moved]
                if not open_.size:
                    break
                aim_x, aim_y = x.reshape(-1)[open_] - side, y.reshape(-1)[open_] - down
            ray_x, ray_y = ray_x.reshape(x.shape), ray_y.reshape(y.shape)
            back_x, back_y = self.distort(ray_x, ray_y)
            missed = np.hypot((back_x - x) / pixel[0], (back_y - y) / pixel[1])
            seen = missed <= _TOLERANCE_PX
        return np.where(seen, ray_x, np.nan), np.where(seen, ray_y, np.nan)

    @property
    def _is_radial(self) -> bool:
        return self.model == FISHEYE or not any(self._all[place] for place in (2, 3, 8, 9, 10, 11))

    def limit(self, radius: float, more: float) -> float:
        """How far from the axis at depth 1 places are seen, in an image that goes on for `more`.

        Args:
            radius: how far from the axis its farthest pixel looks, at depth 1.
            more: in focal lengths.
        """
        radii, bent = self._monotone
        return float(np.interp(np.interp(radius, radii, bent) + more, bent, radii))

    def _radial(self, radius: Any) -> Any:
        """How far from the centre the lens puts what is so far from the axis, without what is not radial."""
        if self.model == FISHEYE:
            k1, k2, k3, k4 = self._all
            theta = np.arctan(radius)
            t = theta * theta
            return theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
        return radius * self._scale(radius * radius)

    def _scale(self, square: Any) -> Any:
        k1, k2, _, _, k3, k4, k5, k6, *_ = self._all
        return (1 + square * (k1 + square * (k2 + square * k3))) / (
            1 + square * (k4 + square * (k5 + square * k6))
        )

    def _beside(self, x: Any, y: Any, square: Any) -> tuple[Any, Any]:
        """What is not radial: the lens that sits askew, and the thin prism."""
        _, _, p1, p2, *_, s1, s2, s3, s4 = self._all
        twice = 2 * x * y
        return (
            p1 * twice + p2 * (square + 2 * x * x) + square * (s1 + square * s2),
            p1 * (square + 2 * y * y) + p2 * twice + square * (s3 + square * s4),
        )

    @functools.cached_property
    def _monotone(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Distances from the axis at depth 1, and those in the image, as far as the latter grow."""
        # Even steps of the angle: the table is as fine at the centre as in a wide lens's corners.
        radii = np.tan(np.linspace(0.0, np.arctan(_FARTHEST_RAY), _SAMPLES))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bent = np.asarray(self._radial(radii), np.float64)
            grows = np.diff(bent) > 0
        end = len(radii) if grows.all() else int(np.argmin(grows)) + 1
        return radii[:end], bent[:end]
