"""Random views of a training frame; each is a function of the random generator it is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from rt_segmentation.data.appearance import Appearance
from rt_segmentation.data.dataset import Sample
from rt_segmentation.labels import IGNORE_ID


@dataclass(frozen=True)
class Augmentation:
    """Scale, crop, mirror, rotation, shear and colour.

    Attributes:
        width, height: size of the crop [px].
        min_scale, max_scale: the frame is scaled by a factor drawn log-uniformly from this range; what the
            crop does not cover is unlabelled and gray.
        fit: the factor is that of the frame stretched to width x height, not of the frame itself.
        aspect: width to height changes by a factor of up to 1 + aspect, and the area stays, as in random
            resized crops (Szegedy et al., 2015).
        rotation_deg, shear_deg: largest angle to both sides [degrees].
        brightness, contrast, saturation: largest change, as a fraction.
        appearance: further changes of light, camera and weather, none by default.
    """

    width: int
    height: int
    min_scale: float = 0.75
    max_scale: float = 1.75
    fit: bool = False
    aspect: float = 0.0
    rotation_deg: float = 0.0
    shear_deg: float = 0.0
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    appearance: Appearance = field(default_factory=Appearance)

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or not 0 < self.min_scale <= self.max_scale:
            raise ValueError("width and height must be 1 or more, and 0 < min_scale <= max_scale")
        if not 0 <= min(self.rotation_deg, self.shear_deg) <= max(self.rotation_deg, self.shear_deg) < 90:
            raise ValueError("rotation_deg and shear_deg must be from 0 to below 90")
        if not 0 <= self.aspect <= 1:
            raise ValueError("aspect must be from 0 to 1")
        colors = (self.brightness, self.contrast, self.saturation)
        if not 0 <= min(colors) <= max(colors) <= 1:
            raise ValueError("brightness, contrast and saturation must be from 0 to 1")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A new sample of (height, width); the given one is not changed."""
        (matrix,) = self.sources_of_crops(np.array([sample.labels.shape[::-1]]), rng)
        size = (self.width, self.height)
        image = cv2.warpAffine(
            sample.image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(128,) * 3
        )
        labels = cv2.warpAffine(
            sample.labels, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, borderValue=IGNORE_ID
        )
        return Sample(self.appearance(self._recolor(image, rng), rng), labels, sample.name)

    def sources_of_crops(self, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random affine maps: (column, row, 1) of the crop to (column, row) of a frame.

        Args:
            sizes: width and height of each frame, (N, 2) [px].
            rng: of the maps.

        Returns:
            float64 (N, 2, 3).
        """
        count = len(sizes)
        scale = np.exp(rng.uniform(np.log(self.min_scale), np.log(self.max_scale), (count, 1)))
        mirror = rng.random(count) < 0.5
        frame, crop = np.asarray(sizes, float), np.array((self.width, self.height), float)
        scales = scale * crop / frame if self.fit else np.repeat(scale, 2, 1)
        if self.aspect:
            stretch = np.exp(rng.uniform(-0.5, 0.5, count) * np.log1p(self.aspect))
            scales = scales * np.column_stack((stretch, 1 / stretch))
        corner = rng.uniform(0, 1, (count, 2)) * (frame * scales - crop)
        angle, shear = np.radians(rng.uniform(-1, 1, (count, 2)) * (self.rotation_deg, self.shear_deg)).T
        cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones(count), np.zeros(count)
        rotation = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
        shearing = np.array([[one, np.tan(shear)], [zero, one]]).transpose(2, 0, 1)
        signed = scales * np.column_stack((np.where(mirror, -1, 1), one))
        to_frame = np.linalg.inv(rotation @ shearing * signed[:, None])
        # The crop's middle stays; a pixel's coordinates are those of its centre.
        middle = (corner + crop / 2) / scales - 0.5
        offset = middle - to_frame @ ((crop - 1) / 2)
        return np.concatenate((to_frame, offset[..., None]), 2)

    def _recolor(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * (
            self.brightness,
            self.contrast,
            self.saturation,
        )
        pixels = image.astype(np.float32)
        gray = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        # In place: new arrays for each step take twice the time.
        pixels -= gray[..., None]
        pixels *= np.float32(saturation)
        pixels += gray[..., None]
        mean = gray.mean()
        pixels -= mean
        pixels *= np.float32(contrast)
        pixels += mean
        pixels *= np.float32(brightness)
        return np.asarray(np.clip(pixels, 0, 255, out=pixels), np.uint8)
