"""A pinhole camera that paints colour and class id into one canvas.

The canvas has four channels, red, green, blue and class id, and every drawing call writes all four: the
labels are exact because no pixel can get a colour without its class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from rt_segmentation.data.street_textures import Image, Levels

NEAR = 0.7  # metres: nothing is drawn nearer to the camera
_SHIFT = 4
_ONE = 1 << _SHIFT

Point = tuple[float, float]
Colour = Sequence[float]


class Painter:
    """One frame's camera and canvas.

    Args:
        canvas: uint8 (height, width, 4), painted in place.
        focal: Focal length in pixels.
        horizon: Row of the horizon.
        position: The camera in the world in metres: across, up, along.
        bend: Curvature of the road in 1/m.
        haze: Colour the distance fades to, uint8 (height, width, 4).
        visibility: Distance in metres over which 63 % of the contrast is lost.
    """

    def __init__(
        self,
        canvas: Image,
        focal: float,
        horizon: float,
        position: tuple[float, float, float],
        bend: float,
        haze: Image,
        visibility: float,
    ) -> None:
        self.canvas = canvas
        self.height, self.width = canvas.shape[:2]
        self.focal = focal
        self.horizon = horizon
        self.x, self.y, self.z = position
        self.bend = bend
        self._haze = haze
        self._haze_colour = [float(v) for v in haze[0, 0, :3]]
        self._visibility = visibility
        self._middle = 0.5 * self.width

    def project(self, x: float, y: float, z: float) -> Point:
        """Where a point of the world (metres) falls in the image (pixels)."""
        depth = z - self.z
        if depth < NEAR:
            depth = NEAR
        scale = self.focal / depth
        u = self._middle + (x - self.x + 0.5 * self.bend * depth * depth) * scale
        return u, self.horizon + (self.y - y) * scale

    def scale(self, z: float) -> float:
        """Pixels a metre at distance z."""
        return self.focal / max(z - self.z, NEAR)

    def _fade(self, z: float) -> float:
        return 1.0 - math.exp(-max(z - self.z, 0.0) / self._visibility)

    def shade(
        self, colour: Colour, cls: int, z: float, light: float = 1.0
    ) -> tuple[float, float, float, int]:
        """A colour as seen at distance z, with its class id."""
        fade = self._fade(z)
        keep = light * (1.0 - fade)
        haze = self._haze_colour
        return (
            colour[0] * keep + haze[0] * fade,
            colour[1] * keep + haze[1] * fade,
            colour[2] * keep + haze[2] * fade,
            cls,
        )

    def _fixed(self, points: Sequence[Point]) -> Image:
        return np.array([(int(u * _ONE), int(v * _ONE)) for u, v in points], np.int32)

    def _pixel(self, point: Point) -> tuple[int, int]:
        return int(point[0] * _ONE), int(point[1] * _ONE)

    def unseen(self, x: float, z: float, reach: float) -> bool:
        """Whether nothing within `reach` metres to the sides of (x, z) falls into the image."""
        u, _ = self.project(x, 0.0, z)
        margin = reach * self.scale(z)
        return u + margin < 0 or u - margin > self.width

    def polygon(self, points: Sequence[Point], colour: Colour, convex: bool = True) -> None:
        """Fill a polygon given in pixels."""
        if convex:
            cv2.fillConvexPoly(self.canvas, self._fixed(points), colour, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(self.canvas, [self._fixed(points)], colour, cv2.LINE_8, _SHIFT)

    def bar(self, start: Point, end: Point, width: float, colour: Colour) -> None:
        """A thick line with round ends, all in pixels."""
        cv2.line(
            self.canvas,
            self._pixel(start),
            self._pixel(end),
            colour,
            max(1, min(500, round(width))),
            cv2.LINE_8,
            _SHIFT,
        )

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled circle, in pixels."""
        cv2.circle(
            self.canvas, self._pixel(centre), max(1, int(radius * _ONE)), colour, -1, cv2.LINE_8, _SHIFT
        )

    def _region(self, points: Sequence[Point]) -> tuple[int, int, int, int] | None:
        us, vs = [u for u, _ in points], [v for _, v in points]
        left, top = max(math.floor(min(us)), 0), max(math.floor(min(vs)), 0)
        right, bottom = min(math.ceil(max(us)) + 1, self.width), min(math.ceil(max(vs)) + 1, self.height)
        return (left, top, right, bottom) if right > left and bottom > top else None

    def _paste(
        self, patch: Image, mask: Image, left: int, top: int, cls: int, z: float, light: float
    ) -> None:
        fade = self._fade(z)
        height, width = mask.shape
        patch = cv2.addWeighted(patch, light * (1 - fade), self._haze[:height, :width], fade, 0.0)
        patch[..., 3] = cls
        cv2.copyTo(patch, mask, self.canvas[top : top + height, left : left + width])

    def _wall(
        self, corners: Sequence[tuple[float, float, float]]
    ) -> tuple[float, list[Point], tuple[int, int, int, int]] | None:
        """What is seen of a wall: the share cut off at its near end, its corners, its region in pixels."""
        near, far = corners[0], corners[1]
        if far[2] <= self.z + NEAR:
            return None
        cut = 0.0
        ends = list(corners)
        if near[2] < self.z + NEAR and far[2] > near[2]:
            cut = (self.z + NEAR - near[2]) / (far[2] - near[2])
            for i, j in ((0, 1), (3, 2)):
                a, b = corners[i], corners[j]
                ends[i] = (a[0] + cut * (b[0] - a[0]), a[1], self.z + NEAR)
        points = [self.project(*corner) for corner in ends]
        region = self._region(points)
        return None if region is None else (cut, points, region)

    def _outline(self, points: Sequence[Point], size: tuple[int, int], convex: bool = True) -> Image:
        mask = np.zeros((size[1], size[0]), np.uint8)
        if convex:
            cv2.fillConvexPoly(mask, self._fixed(points), 255, cv2.LINE_8, _SHIFT)
        else:
            cv2.fillPoly(mask, [self._fixed(points)], 255, cv2.LINE_8, _SHIFT)
        return mask

    def surface(
        self, texture: Levels, corners: Sequence[tuple[float, float, float]], z: float, light: float
    ) -> None:
        """An opaque texture on an upright wall; corners in metres: top near, top far, bottom far, near."""
        wall = self._wall(corners)
        if wall is None:
            return
        cut, points, (left, top, right, bottom) = wall
        tall = max(abs(points[0][1] - points[3][1]), 1.0)
        level = min(len(texture) - 1, max(0, int(math.log2(max(1.0, texture[0].shape[0] / tall)) + 0.4)))
        wide = abs(points[0][0] - points[1][0]) + 1.0
        level = max(level, min(len(texture) - 1, int(math.log2(max(1.0, texture[0].shape[1] / wide)) - 0.6)))
        image = texture[level]
        height, width = image.shape[:2]
        source = np.array([[cut * width, 0], [width, 0], [width, height], [cut * width, height]], np.float32)
        local = [(u - left, v - top) for u, v in points]
        matrix = cv2.getPerspectiveTransform(source, np.array(local, np.float32))
        size = (right - left, bottom - top)
        patch = cv2.warpPerspective(
            image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        self._paste(patch, self._outline(local, size), left, top, int(image[0, 0, 3]), z, light)

    def cutout(
        self, texture: Levels, x: float, z: float, size: tuple[float, float], cls: int, light: float
    ) -> None:
        """A cut-out of `size` (width, height in metres) standing upright on the ground at (x, z)."""
        if z - self.z < 1.5:
            return
        scale = self.scale(z)
        u, v = self.project(x, 0.0, z)
        wide, tall = size[0] * scale, size[1] * scale
        region = self._region(((u - wide / 2, v - tall), (u + wide / 2, v)))
        if region is None or tall < 2:
            return
        left, top, right, bottom = region
        level = min(len(texture) - 1, max(0, int(math.log2(max(1.0, texture[0].shape[0] / tall)) + 0.3)))
        image = texture[level]
        sx, sy = wide / image.shape[1], tall / image.shape[0]
        matrix = np.array([[sx, 0, u - wide / 2 - left], [0, sy, v - tall - top]])
        patch = cv2.warpAffine(image, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
        mask = cv2.threshold(cv2.extractChannel(patch, 3), 127, 255, cv2.THRESH_BINARY)[1]
        self._paste(patch, mask, left, top, cls, z, light)

    def box(self, x: float, y: float, z: float, width: float, height: float, colour: Colour) -> None:
        """An upright rectangle facing the camera, its lower middle at (x, y, z), at least 2 pixels wide."""
        scale = self.scale(z)
        u, v = self.project(x, y, z)
        half = max(width * scale, 1.2) / 2
        top = v - height * scale
        self.polygon(((u - half, top), (u + half, top), (u + half, v), (u - half, v)), colour)
