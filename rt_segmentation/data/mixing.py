"""Training frames mixed from two: the look of the other one, and things pasted from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rt_segmentation.data.dataset import Sample
from rt_segmentation.labels import IGNORE_ID


@dataclass(frozen=True)
class Mixing:
    """Chances of mixing a frame with another one that is drawn from all training frames.

    Attributes:
        amplitude: chance of taking over the low frequencies' Fourier amplitudes, which carry light and
            colours, mixed with the frame's own by a random share (Yang and Soatto, 2020; Xu et al., 2021).
        amplitude_band: of these frequencies, as a share of the image's smaller side.
        paste: chance of pasting pixels of the other frame's classes (ClassMix, Olsson et al., 2021): half of
            those that occur, or what of `paste_classes` occurs, where that is given.
        paste_classes: ids; a few rare ones, as poles and people.
    """

    amplitude: float = 0.0
    amplitude_band: float = 0.05
    paste: float = 0.0
    paste_classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= min(self.amplitude, self.paste) <= max(self.amplitude, self.paste) <= 1:
            raise ValueError("amplitude and paste are chances and must be from 0 to 1")
        if not 0 < self.amplitude_band <= 0.5:
            raise ValueError("amplitude_band must be above 0 and up to 0.5")

    @property
    def active(self) -> bool:
        """Whether any frame is mixed."""
        return self.amplitude > 0 or self.paste > 0

    def __call__(self, sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
        """A new sample; both given ones, of the same size, stay as they are."""
        image, labels = sample.image, sample.labels
        if rng.random() < self.amplitude:
            image = mix_amplitudes(image, other.image, self.amplitude_band, rng.uniform(0, 1))
        if rng.random() < self.paste:
            pasted = np.isin(other.labels, self._classes(other.labels, rng))
            image = np.where(pasted[..., None], other.image, image)
            labels = np.where(pasted, other.labels, labels)
        return Sample(image, labels, sample.name)

    def _classes(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        present = np.setdiff1d(np.unique(labels), (IGNORE_ID,))
        if self.paste_classes:
            return np.intersect1d(present, self.paste_classes)
        return np.asarray(rng.permutation(present)[: (len(present) + 1) // 2])


def mix_amplitudes(image: np.ndarray, other: np.ndarray, band: float, share: float) -> np.ndarray:
    """An image with a share of another one's amplitudes at the lowest frequencies.

    Args:
        image: uint8 (H, W, 3).
        other: likewise, of the same size.
        band: frequencies below this share of the smaller side are mixed.
        share: of the other's amplitudes, 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    reach = max(1, int(band * min(height, width)))
    ours, theirs = (np.fft.rfft2(pixels.astype(np.float32), axes=(0, 1)) for pixels in (image, other))
    # The real transform keeps the columns' non-negative frequencies; the rows' negative ones come last.
    for rows in (slice(0, reach + 1), slice(height - reach, height)):
        low = ours[rows, : reach + 1]
        amplitudes = np.abs(low)
        wanted = (1 - share) * amplitudes + share * np.abs(theirs[rows, : reach + 1])
        ours[rows, : reach + 1] = low * (wanted / np.maximum(amplitudes, 1e-6))
    return np.asarray(np.clip(np.fft.irfft2(ours, (height, width), axes=(0, 1)), 0, 255), np.uint8)
