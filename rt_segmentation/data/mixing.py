"""Training frames mixed from two: the look of the other one, and things pasted from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
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
        if not all(0 <= i < IGNORE_ID for i in self.paste_classes):
            raise ValueError(f"paste_classes are ids from 0 to {IGNORE_ID - 1}")
        if self.paste_classes and not self.paste:
            raise ValueError("paste_classes are given and paste is 0, which pastes nothing")

    def __call__(self, sample: Sample, draw: Callable[[], Sample], rng: np.random.Generator) -> Sample:
        """A new sample, or the given one where no chance comes true; none that is given is changed.

        Args:
            sample: to mix.
            draw: gives the other one, of the same size; called only where it is needed.
            rng: decides; for what is off no number is drawn.
        """
        mixes = self.amplitude > 0 and rng.random() < self.amplitude
        pastes = self.paste > 0 and rng.random() < self.paste
        if not mixes and not pastes:
            return sample
        other, image, labels = draw(), sample.image, sample.labels
        if mixes:
            image = mix_amplitudes(image, other.image, self.amplitude_band, rng.uniform(0, 1))
        if pastes:
            chosen = np.zeros(256, np.uint8)
            chosen[self._classes(other.labels, rng)] = 255
            mask = cv2.LUT(other.labels, chosen)
            image, labels = image.copy(), labels.copy()
            cv2.copyTo(other.image, mask, image)
            cv2.copyTo(other.labels, mask, labels)
        return Sample(image, labels, sample.name)

    def _classes(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[:IGNORE_ID])
        if self.paste_classes:
            return np.intersect1d(present, self.paste_classes)
        return np.asarray(rng.permutation(present)[: (len(present) + 1) // 2])


def mix_amplitudes(image: np.ndarray, other: np.ndarray, band: float, share: float) -> np.ndarray:
    """An image with a share of another one's amplitudes at the lowest frequencies, in its own phases.

    Only these frequencies are computed, as products with a few sines and cosines, and what changes of them is
    added to the image: a tenth of the time of whole Fourier transforms.

    Args:
        image: uint8 (H, W, 3).
        other: uint8 (H, W, 3), of the same size.
        band: frequencies up to this share of the smaller side are mixed, along both sides.
        share: of the other's amplitudes, 0 to 1.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    reach = max(1, int(band * min(height, width)))
    # Negative rows' frequencies as well; of the columns' the negative ones are the others' conjugates.
    rows = _waves(np.unique(np.arange(-reach, reach + 1) % height), height)
    columns = _waves(np.arange(min(reach, width // 2) + 1), width)
    ours, theirs = (_spectrum(pixels, rows, columns) for pixels in (image, other))
    amplitudes = np.abs(ours)
    change = ours * (share * (np.abs(theirs) - amplitudes) / np.maximum(amplitudes, 1e-6))
    # Each column's frequency stands for its conjugate too, but for those that are their own.
    twice = np.full(len(columns), 2.0)
    twice[0] = 1
    if 2 * (len(columns) - 1) == width:
        twice[-1] = 1
    along = np.tensordot(rows.conj().T, change, 1) * (twice / (height * width))[:, None]
    # (H, K, 3) and (K, W) to (H, W, 3), of which the real part is left.
    waves = np.concatenate((columns.real, columns.imag)).astype(np.float32)
    factors = np.concatenate((along.real, along.imag), 1).astype(np.float32)
    added = np.matmul(factors.transpose(0, 2, 1), waves).transpose(0, 2, 1)
    return np.asarray(np.rint(image + added).clip(0, 255), np.uint8)


def _waves(frequencies: np.ndarray, length: int) -> np.ndarray:
    """Rows of a discrete Fourier transform, complex64 (frequencies, length)."""
    angles = np.outer(frequencies, np.arange(length)) % length * (-2 * np.pi / length)
    return np.asarray(np.exp(1j * angles), np.complex64)


def _spectrum(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Of uint8 (H, W, 3) the Fourier coefficients of these waves, complex64 (rows, columns, 3)."""
    height, width = pixels.shape[:2]
    waves = np.concatenate((columns.real, columns.imag)).T
    # (H, 3, W) times (W, 2 K).
    parts = np.ascontiguousarray(pixels.transpose(0, 2, 1), np.float32).reshape(-1, width) @ waves
    halves = parts.reshape(height, 3, 2, len(columns))
    return np.asarray(np.tensordot(rows, halves[:, :, 0] + 1j * halves[:, :, 1], 1).transpose(0, 2, 1))
