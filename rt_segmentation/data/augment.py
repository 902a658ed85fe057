"""Random views of a training frame; each is a function of the random generator it is given."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rt_segmentation.data.dataset import Sample
from rt_segmentation.labels import IGNORE_ID


@dataclass(frozen=True)
class Augmentation:
    """Scale, crop, mirror and colour.

    Attributes:
        width, height: size of the crop [px].
        min_scale, max_scale: the frame is scaled by a factor drawn log-uniformly from this range; what the
            crop does not cover is unlabelled and gray.
        brightness, contrast, saturation: largest change, as a fraction.
    """

    width: int
    height: int
    min_scale: float = 0.75
    max_scale: float = 1.75
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A new sample of (height, width); the given one is not changed."""
        scale = float(np.exp(rng.uniform(np.log(self.min_scale), np.log(self.max_scale))))
        mirror = rng.random() < 0.5
        height, width = sample.labels.shape
        # One affine map does scale, crop and mirror at once: source = matrix x (column, row, 1).
        left = rng.uniform(0, 1) * (width * scale - self.width)
        top = rng.uniform(0, 1) * (height * scale - self.height)
        step = -1 / scale if mirror else 1 / scale
        first = (left + (self.width - 1 if mirror else 0)) / scale
        matrix = np.array([[step, 0, first], [0, 1 / scale, top / scale]], np.float32)
        size = (self.width, self.height)
        image = cv2.warpAffine(
            sample.image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(128,) * 3
        )
        labels = cv2.warpAffine(
            sample.labels, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=IGNORE_ID
        )
        return Sample(self._recolor(image, rng), labels, sample.name)

    def _recolor(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * (
            self.brightness,
            self.contrast,
            self.saturation,
        )
        pixels = image.astype(np.float32)
        gray = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels = gray[..., None] + (pixels - gray[..., None]) * np.float32(saturation)
        mean = gray.mean()
        pixels = (mean + (pixels - mean) * np.float32(contrast)) * np.float32(brightness)
        return np.asarray(np.clip(pixels, 0, 255), np.uint8)
