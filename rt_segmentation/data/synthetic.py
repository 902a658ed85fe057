"""A seeded, endless, moving street with exact labels, for demonstrations, tests and training without data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from rt_segmentation.data import street_textures as textures
from rt_segmentation.data.street_depth import DepthPainter
from rt_segmentation.data.street_layout import StreetLayout, unit
from rt_segmentation.data.street_painter import Painter
from rt_segmentation.data.street_textures import Image, StreetClass

__all__ = ["CAMERA_HEIGHT_M", "StreetClass", "StreetScene"]

_SPEED = 8.0  # m/s, the camera's
_NOISE_TILE = 192

SMALLEST = (64, 48)
"""(width, height) of the smallest frame [px]."""

CAMERA_HEIGHT_M = 1.5
"""The camera's height over the ground."""


class StreetScene:
    """A street as a forward-looking car camera sees it, driving at 8 m/s, with the 11 CamVid classes.

    Every frame depends on the arguments and the time alone: frames may be rendered in any order, in any
    process. The street never ends.

    Args:
        seed: Chooses street, weather, light and everybody on it.
        width: Width of the frames in pixels, at least 64.
        height: Height of the frames in pixels, at least 48.

    Raises:
        ValueError: If the seed is negative or a side is too small.
    """

    def __init__(self, seed: int, width: int = 640, height: int = 360) -> None:
        if seed < 0:
            raise ValueError(f"StreetScene: seed is {seed}; it must be 0 or more.")
        if width < SMALLEST[0] or height < SMALLEST[1]:
            least = f"{SMALLEST[0]}x{SMALLEST[1]}"
            raise ValueError(f"StreetScene: the size is {width}x{height}; it must be at least {least}.")
        self._seed, self._width, self._height = seed, width, height
        rng = np.random.default_rng([seed, 1])
        self._focal = min(1.08 * height, 0.95 * width)
        self._bend = (
            float(rng.uniform(0.0, 1 / 280)),
            float(rng.uniform(70, 140)),
            float(rng.uniform(0, 6.28)),
        )
        self._set_weather(rng)
        self._layout = StreetLayout(seed, rng, self._sun, self._sunny)
        self._set_textures(rng)

    def _set_weather(self, rng: np.random.Generator) -> None:
        self._clouds = float(rng.choice([0.1, 0.4, 0.7, 1.0]))
        self._dusk = float(rng.choice([0.0, 0.0, 0.0, 0.5, 1.0]))
        self._sunny = max(0.0, 1.0 - self._clouds * 1.2) * (1 - 0.6 * self._dusk)
        self._sun = float(rng.choice([-1.0, 1.0]))
        self._visibility = float(rng.uniform(70, 160) if self._clouds > 0.8 else rng.uniform(160, 420))
        haze = np.array([205, 212, 218]) * (1 - self._dusk) + np.array([206, 172, 146]) * self._dusk
        self._haze = np.empty((self._height, self._width, 4), np.uint8)
        self._haze[...] = [*haze.astype(int).tolist(), 0]
        exposure = rng.uniform(0.8, 1.15) * (1 - 0.36 * self._dusk)
        tint = np.array(
            [1 + 0.05 * self._sunny + 0.06 * self._dusk, 1.0, 1 - 0.05 * self._sunny]
        ) * rng.uniform(0.96, 1.04, 3)
        curve = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.85, 1.2)
        self._tone = np.clip(255 * curve * exposure * tint, 0, 255).astype(np.uint8).reshape(1, 256, 3)
        self._blur = float(rng.uniform(0.35, 0.75))
        strength = rng.uniform(1.5, 5.0) + 2.5 * self._dusk
        noise = rng.normal(0, strength, (_NOISE_TILE, _NOISE_TILE, 3))
        repeats = (self._height // _NOISE_TILE + 2, self._width // _NOISE_TILE + 2, 1)
        self._grain = tuple(
            np.tile(np.clip(part, 0, 255).astype(np.uint8), repeats) for part in (noise, -noise)
        )
        self._rain: Image | None = None
        if self._clouds > 0.6 and rng.random() < 0.4:
            self._rain = np.zeros((2 * self._height, self._width, 3), np.uint8)
            for _ in range(160):
                x, y = int(rng.integers(self._width)), int(rng.integers(2 * self._height))
                length = int(self._height * rng.uniform(0.02, 0.06))
                cv2.line(self._rain, (x, y), (x - length // 6, y + length), [int(rng.uniform(12, 42))] * 3, 1)

    def _set_textures(self, rng: np.random.Generator) -> None:
        colour, self._ground_labels = textures.ground(rng, self._layout.road, self._layout.pavement)
        self._ground = [colour]
        for _ in range(2):
            shape = (self._ground[-1].shape[1] // 4, self._ground[-1].shape[0] // 4)
            self._ground.append(cv2.resize(self._ground[-1], shape, interpolation=cv2.INTER_AREA))
        self._horizon = 0.46 * self._height
        tall = int(self._horizon + 0.04 * self._height) + 2
        self._sky = textures.sky(rng, tall, int(1.5 * self._width), self._clouds, self._dusk)
        skyline_height = max(6, int(0.075 * self._height))
        self._skyline = textures.skyline(rng, skyline_height, int(1.5 * self._width))

    def _paint_sky(self, canvas: Image, horizon: int, yaw: float) -> None:
        rows = min(horizon + 1, self._sky.shape[0])
        left = int(np.clip((0.25 + yaw) * self._width, 0, 0.5 * self._width))
        canvas[:rows] = self._sky[self._sky.shape[0] - rows :, left : left + self._width]
        for cls, strip in zip((StreetClass.BUILDING, StreetClass.TREE), self._skyline, strict=True):
            tall = strip.shape[0]
            top = horizon + 1 - tall
            patch = cv2.addWeighted(strip[:, left : left + self._width], 0.55, self._haze[:tall], 0.45, 0.0)
            mask = np.ascontiguousarray(strip[:, left : left + self._width, 3])
            patch[..., 3] = cls
            cv2.copyTo(patch, mask, canvas[top : horizon + 1])

    def _paint_ground(self, p: Painter, horizon: int, shades: Sequence[tuple[float, float]]) -> None:
        canvas, top = p.canvas, horizon + 1
        rows = np.arange(top, self._height, dtype=np.float32) + 0.5
        depth = np.minimum(p.focal * p.y / np.maximum(rows - p.horizon, 0.5), 500.0).astype(np.float32)
        columns = np.arange(self._width, dtype=np.float32) + 0.5 - self._width / 2
        half = textures.GROUND_HALF_WIDTH
        scale = np.float32(textures.GROUND_SCALE)
        shift = ((p.x - 0.5 * p.bend * depth**2 + half) * scale).astype(np.float32)
        x = (depth * scale / np.float32(p.focal))[:, None] * columns[None, :]
        x += shift[:, None]
        np.clip(x, 0, 2 * half * scale - 1, out=x)
        along = (((depth + p.z) % textures.GROUND_PERIOD) * textures.GROUND_SCALE).astype(np.float32)
        colour = np.empty((len(rows), self._width, 3), np.uint8)
        bounds = [int(np.searchsorted(-depth, -limit)) for limit in (34.0, 11.0)]
        bands = ((bounds[1], len(rows)), (bounds[0], bounds[1]), (0, bounds[0]))
        for level, (texture, (first, last)) in enumerate(zip(self._ground, bands, strict=True)):
            if first < last:
                u = x[first:last] * np.float32(0.25**level) - np.float32(0.5)
                row = along[first:last, None] * np.float32(0.25**level) - np.float32(0.5)
                v = np.repeat(row, self._width, axis=1)
                colour[first:last] = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        self._paint_shadows(p, colour, top, shades)
        fade = (1 - np.exp(-depth / self._visibility)).astype(np.float32)
        far = int(np.searchsorted(-depth, -8.0))
        if far:
            mix, haze = fade[:far, None, None], self._haze[0, 0, :3].astype(np.float32)
            colour[:far] = colour[:far] * (1 - mix) + haze * mix
        canvas[top:, :, :3] = colour
        canvas[top:, :, 3] = np.take(self._ground_labels, x.astype(np.int32))

    def _paint_shadows(
        self, p: Painter, colour: Image, top: int, shades: Sequence[tuple[float, float]]
    ) -> None:
        """Shade under the cars and, when the sun is out, beside the houses: darker, of the same class."""
        shade = np.zeros(colour.shape[:2], np.uint8)

        def patch(corners: tuple[tuple[float, float], ...]) -> None:
            points = np.array([p.project(x, 0.0, z) for x, z in corners])
            points[:, 1] -= top
            cv2.fillConvexPoly(shade, np.clip(points, -20000, 20000).astype(np.int32), 255)

        if self._sunny > 0.2:
            edge = self._sun * self._layout.pavement
            for start in np.arange(math.floor(p.z / 9) * 9, p.z + 90, 9.0):
                reach = 2.0 + 5.5 * unit(self._seed, 90, int(start))
                inner = edge - self._sun * reach
                patch(((edge, start), (inner, start + 1.5), (inner, start + 8.0), (edge, start + 9)))
        for x, z in shades:
            patch(((x - 1.05, z - 2.5), (x + 1.05, z - 2.5), (x + 1.05, z + 2.5), (x - 1.05, z + 2.5)))
        dark = cv2.convertScaleAbs(colour, alpha=0.58)
        cv2.copyTo(dark, shade, colour)

    def _camera(self, time_s: float) -> tuple[float, tuple[float, float, float], float]:
        """The row of the horizon, the camera's place (across, up, along) [m], and how much the road bends."""
        along = _SPEED * time_s
        _, wave, phase = self._bend
        pitch = 0.006 * self._height * (math.sin(2.1 * time_s + phase) + 0.5 * math.sin(5.3 * time_s))
        sway = self._layout.side * 1.6 + 0.12 * math.sin(0.5 * time_s)
        return self._horizon + pitch, (sway, CAMERA_HEIGHT_M, along), math.sin(along / wave + phase)

    def pinhole(self, time_s: float) -> tuple[float, float, float]:
        """The camera of a frame: focal length and principal point x and y [px], pixel centres being whole.

        The horizon nods with the car, and the principal point with it, as the image plane stays upright.
        """
        return self._focal, self._width / 2 - 0.5, self._camera(time_s)[0] - 0.5

    def render_depth(self, time_s: float) -> np.ndarray:
        """How far everything in a frame is; see `DepthPainter` for how exactly.

        Args:
            time_s: As for `render`.

        Returns:
            float32 (height, width), the depth along the optical axis [m], infinite for the sky.
        """
        horizon, position, turn = self._camera(time_s)
        painter = DepthPainter(
            self._width, self._height, self._focal, horizon, position, self._bend[0] * turn
        )
        painter.ground()
        for item in self._layout.items(time_s, position[2]):
            item.draw(painter)
        return painter.canvas

    def render(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """One frame.

        Args:
            time_s: Time since the start of the drive in seconds, 0 or more.

        Returns:
            Colour, uint8 RGB (height, width, 3), and class ids, uint8 (height, width); see `StreetClass`.
        """
        horizon, position, turn = self._camera(time_s)
        canvas = np.empty((self._height, self._width, 4), np.uint8)
        painter = Painter(
            canvas, self._focal, horizon, position, self._bend[0] * turn, self._haze, self._visibility
        )

        items = self._layout.items(time_s, position[2])
        self._paint_sky(canvas, int(horizon), 0.1 * turn)
        self._paint_ground(painter, int(horizon), [item.shade for item in items if item.shade])
        for item in items:
            item.draw(painter)
        return self._develop(canvas, time_s), np.asarray(cv2.extractChannel(canvas, 3))

    def _develop(self, canvas: Image, time_s: float) -> Image:
        """What the lens and the sensor make of the light."""
        image = cv2.LUT(cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB), self._tone)
        image = cv2.GaussianBlur(image, (3, 3), self._blur)
        tick = round(time_s * 1000)
        if self._rain is not None:
            fall = round(time_s * 9 * self._height + 977 * unit(self._seed, 95, tick)) % self._height
            image = cv2.add(image, self._rain[fall : fall + self._height])
        dx, dy = (int(unit(self._seed, salt, tick) * _NOISE_TILE) for salt in (96, 97))
        bright, dark = (part[dy : dy + self._height, dx : dx + self._width] for part in self._grain)
        return np.asarray(cv2.subtract(cv2.add(image, bright), dark))
