"""Random changes of how a frame looks: light, camera and weather; where things are stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

LUMA = (0.299, 0.587, 0.114)
"""Of R, G and B (BT.601)."""


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
        image = self._toned(self._recolored(image, rng), rng)
        image = self._lit(image, rng)
        if self.blur and rng.random() < 0.5:
            deviation = rng.uniform(0.1, max(0.1, self.blur))
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), deviation), np.uint8)
        if self.noise and rng.random() < 0.5:
            level = np.float32(rng.uniform(0, self.noise))
            height, width = image.shape[:2]
            # A quarter of the numbers, four times: to draw them takes longer than all else here.
            tile = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 3), np.float32) * level
            noise = np.tile(tile, (2, 2, 1))[:height, :width]
            image = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
        if self.jpeg and rng.random() < 0.5:
            quality = int(rng.integers(self.jpeg, 101))
            # The colours' order matters: JPEG keeps blue and red worse than green, and each in its own way.
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
            decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
            image = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        return image

    def _recolored(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """With its hues turned, or gray."""
        matrix = None
        if self.hue_deg:
            matrix = hue_turn(rng.uniform(-self.hue_deg, self.hue_deg))
        if self.gray and rng.random() < self.gray:
            matrix = np.tile(LUMA, (3, 1))
        return image if matrix is None else np.asarray(cv2.transform(image, matrix), np.uint8)

    def _toned(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """With other gains of the channels, and another gamma."""
        if not self.white_balance and not self.gamma:
            return image
        gains, exponent = np.ones(3), 1.0
        if self.white_balance:
            gains = 1 + rng.uniform(-self.white_balance, self.white_balance, 3)
        if self.gamma:
            exponent = float(np.exp(rng.uniform(-1, 1) * np.log1p(self.gamma)))
        levels = 255 * (np.arange(256) / 255) ** exponent
        table = np.clip(np.rint(levels[:, None] * gains), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, table[:, None]), np.uint8)

    def _lit(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """With shadow, vignette and fog: pixels times a factor plus a share of a gray."""
        if not (self.shadow or self.vignette or self.haze):
            return image
        height, width = image.shape[:2]
        factors = np.ones((height, width), np.float32)
        fog = np.zeros((height, 1), np.float32)
        if self.shadow and rng.random() < self.shadow:
            factors = _shadow(width, height, rng)
        if self.vignette:
            factors *= _vignette(width, height, rng.uniform(0, self.vignette))
        if self.haze:
            share = np.linspace(rng.uniform(0, self.haze), 0, height, dtype=np.float32)[:, None]
            factors *= 1 - share
            fog = share * np.float32(rng.uniform(140, 240))
        pixels = np.asarray(cv2.multiply(image, cv2.merge([factors] * 3), dtype=cv2.CV_32F), np.float32)
        pixels += fog[..., None]
        # Factors and shares are at most 1: nothing leaves 0 to 255.
        return np.asarray(np.rint(pixels, out=pixels), np.uint8)


def hue_turn(degrees: float) -> np.ndarray:
    """A matrix, float64 (3, 3), that turns the hues of RGB columns and keeps luma and all grays.

    It turns the plane of the colour differences (I, Q) of the YIQ space.
    """
    to_yiq = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.asarray(np.linalg.inv(to_yiq) @ turn @ to_yiq)


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
