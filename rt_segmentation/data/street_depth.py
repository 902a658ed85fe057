"""The depth image of a synthetic street: everything is drawn again, with its distance for a colour."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rt_segmentation.data.street_painter import NEAR, Colour, Painter, Point
from rt_segmentation.data.street_textures import Image, Levels

BEYOND_M = 500.0
"""The ground's depth ends here, where the horizon is."""


class _Spot(tuple[float, float]):
    """A point of the image that knows its depth [m]."""

    depth: float


class DepthPainter(Painter):
    """Draws what a `Painter` draws, pixel by pixel, into a canvas of depths.

    Ground, walls, roofs and cars have the depth of their planes; all that is flat and faces the camera
    (people, trees, signs) has one depth.

    Args:
        width: Width of the canvas in pixels.
        height: Height of the canvas in pixels.
        focal: Focal length in pixels.
        horizon: Row of the horizon.
        position: The camera in the world in metres: across, up, along.
        bend: Curvature of the road in 1/m.

    Attributes:
        canvas: float32 (height, width), the depth along the optical axis in metres, infinite for the sky.
    """

    def __init__(
        self,
        width: int,
        height: int,
        focal: float,
        horizon: float,
        position: tuple[float, float, float],
        bend: float,
    ) -> None:
        canvas = np.full((height, width), np.inf, np.float32)
        super().__init__(canvas, focal, horizon, position, bend, np.zeros((1, 1, 4), np.uint8), 1.0)

    def ground(self) -> None:
        """The ground, from the row under the horizon down."""
        top = int(self.horizon) + 1
        rows = np.arange(top, self.height, dtype=np.float32) + 0.5
        depth = np.minimum(self.focal * self.y / np.maximum(rows - self.horizon, 0.5), BEYOND_M)
        self.canvas[top:] = depth[:, None]

    def shade(
        self, colour: Colour, cls: int, z: float, light: float = 1.0
    ) -> tuple[float, float, float, int]:
        """A "colour" that is the depth of z."""
        return max(z - self.z, NEAR), 0.0, 0.0, 0

    def project(self, x: float, y: float, z: float) -> Point:
        """As a `Painter` does; the point knows its depth."""
        spot = _Spot(super().project(x, y, z))
        spot.depth = max(z - self.z, NEAR)
        return spot

    def polygon(self, points: Sequence[Point], colour: Colour, convex: bool = True) -> None:
        """A part of a plane in space where the points have depths: 1/depth is even over the image."""
        depths = _depths(points)
        region = self._region(points)
        if len(depths) < 3 or region is None or max(depths) - min(depths) < 1e-6:
            super().polygon(points, depths[:1] or colour, convex)
            return
        left, top, right, bottom = region
        # Fewer than three directions, as of an edge that is seen from its side, have a plane as well.
        corners = np.array([(u - left, v - top, 1.0) for u, v in points])
        plane = np.linalg.lstsq(corners, 1 / np.array(depths), rcond=1e-9)[0]
        rows, columns = np.arange(bottom - top)[:, None], np.arange(right - left)[None]
        inverse = np.clip(plane[0] * columns + plane[1] * rows + plane[2], 1 / max(depths), 1 / min(depths))
        outline = self._outline([(u, v) for u, v, _ in corners], (right - left, bottom - top), convex)
        cv2.copyTo((1 / inverse).astype(np.float32), outline, self.canvas[top:bottom, left:right])

    def bar(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """A thick line, as deep as its middle."""
        depths = _depths((start, end))
        super().bar(start, end, width, (sum(depths) / len(depths),) if depths else colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled circle."""
        super().disc(centre, radius, _depths((centre,)) or colour)

    def box(self, x: float, y: float, z: float, width: float, height: float, colour: Colour) -> None:
        """An upright rectangle facing the camera."""
        super().box(x, y, z, width, height, (max(z - self.z, NEAR),))

    def surface(
        self, texture: Levels, corners: Sequence[tuple[float, float, float]], z: float, light: float
    ) -> None:
        """A wall: 1/depth is even between its near and its far edge."""
        wall = self._wall(corners)
        if wall is None:
            return
        _, points, (left, top, right, bottom) = wall
        near, far = max(corners[0][2] - self.z, NEAR), corners[1][2] - self.z
        u_near, u_far = points[0][0], points[1][0]
        columns = np.arange(left, right, dtype=np.float64)
        share = np.clip((columns - u_near) / ((u_far - u_near) or 1.0), 0.0, 1.0)
        depth = (1 / ((1 - share) / near + share / far)).astype(np.float32)
        mask = self._outline([(u - left, v - top) for u, v in points], (right - left, bottom - top))
        depths = np.repeat(depth[None], mask.shape[0], axis=0)
        cv2.copyTo(depths, mask, self.canvas[top:bottom, left:right])

    def _paste(
        self, patch: Image, mask: Image, left: int, top: int, cls: int, z: float, light: float
    ) -> None:
        height, width = mask.shape
        region = self.canvas[top : top + height, left : left + width]
        cv2.copyTo(np.full(mask.shape, max(z - self.z, NEAR), np.float32), mask, region)


def _depths(points: Sequence[Point]) -> list[float]:
    """The depths of points that all have one; empty otherwise."""
    depths = [point.depth for point in points if isinstance(point, _Spot)]
    return depths if len(depths) == len(points) else []
