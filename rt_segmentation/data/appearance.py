"""Random changes of how a frame looks: light, camera and weather; where things are stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np


@dataclass(frozen=True)
class Appearance:
    """Amounts and chances of changes, each 0 by default, in which case no random number is drawn for it.

    A network that is to work on an unseen road must not rely on the light and the camera of the roads it was
    trained on (Hendrycks and Dietterich, 2019, list what cameras do to networks).

    Attributes:
        gamma: the exponent is drawn log-uniformly from 1 / (1 + gamma) to 1 + gamma.
        white_balance: largest change of a colour channel's gain, as a fraction.
        hue_deg: largest turn of the hues to both sides [degrees].
        blur: largest standard deviation of a Gaussian blur [px], applied to every second frame.
        noise: largest standard deviation of the pixels' noise [gray levels], applied to every second frame.
        jpeg: lowest quality of a JPEG compression, 1 to 100, applied to every second frame; 0 is without.
        shadow: chance of a shadow: a random quadrangle of 0.3 to 0.8 of its brightness.
        vignette: largest darkening of the corners, as a fraction.
        haze: largest share of fog, which grows from the bottom to the top, as a fraction.
        gray: chance of a frame without colours.
    """

    gamma: float = 0.0
    white_balance: float = 0.0
    hue_deg: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    shadow: float = 0.0
    vignette: float = 0.0
    haze: float = 0.0
    gray: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{field.name} must not be below 0")
        for name in ("white_balance", "shadow", "vignette", "haze", "gray"):
            if getattr(self, name) > 1:
                raise ValueError(f"{name} must be from 0 to 1")
        if self.hue_deg > 180 or self.jpeg > 100:
            raise ValueError("hue_deg must be from 0 to 180, and jpeg a quality from 1 to 100, or 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed copy of an RGB image, uint8 (H, W, 3)."""
        pixels = self._recolored(image, rng).astype(np.float32)
        height, width = pixels.shape[:2]
        if self.shadow and rng.random() < self.shadow:
            pixels *= _shadow(width, height, rng)[..., None]
        if self.vignette:
            pixels *= _vignette(width, height, rng.uniform(0, self.vignette))[..., None]
        if self.haze:
            share = np.linspace(rng.uniform(0, self.haze), 0, height, dtype=np.float32)[:, None, None]
            pixels += (np.float32(rng.uniform(140, 240)) - pixels) * share
        if self.blur and rng.random() < 0.5:
            deviation = rng.uniform(0.1, max(0.1, self.blur))
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), deviation), np.float32)
        if self.noise and rng.random() < 0.5:
            level = np.float32(rng.uniform(0, self.noise))
            pixels += rng.standard_normal(pixels.shape, np.float32) * level
        changed = np.asarray(np.clip(pixels, 0, 255), np.uint8)
        if self.jpeg and rng.random() < 0.5:
            quality = int(rng.integers(self.jpeg, 101))
            _, data = cv2.imencode(".jpg", changed, (cv2.IMWRITE_JPEG_QUALITY, quality))
            changed = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return changed

    def _recolored(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.hue_deg:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            # OpenCV counts hues in steps of two degrees.
            turn = round(rng.uniform(-self.hue_deg, self.hue_deg) / 2)
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + turn) % 180
            image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
        if self.gray and rng.random() < self.gray:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None].repeat(3, 2)
        gains, exponent = np.ones(3), 1.0
        if self.white_balance:
            gains = 1 + rng.uniform(-self.white_balance, self.white_balance, 3)
        if self.gamma:
            exponent = float(np.exp(rng.uniform(-1, 1) * np.log1p(self.gamma)))
        if not self.white_balance and not self.gamma:
            return image
        levels = 255 * (np.arange(256) / 255) ** exponent
        table = np.clip(levels[:, None] * gains, 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, table[:, None]), np.uint8)


def _shadow(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Factors, float32 (height, width): below 1 within a quadrangle with soft edges."""
    corners = rng.uniform(0, 1, (4, 2)) * (width, height)
    hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)
    factors = np.ones((height, width), np.float32)
    cv2.fillConvexPoly(factors, hull, float(rng.uniform(0.3, 0.8)))
    return np.asarray(cv2.blur(factors, (5, 5)), np.float32)


def _vignette(width: int, height: int, darkening: float) -> np.ndarray:
    """Factors, float32 (height, width): 1 in the middle, 1 - darkening in the corners."""
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    return np.asarray(1 - np.float32(darkening) * (x**2 + y[:, None] ** 2) / 2, np.float32)
