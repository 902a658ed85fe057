"""Batches of augmented frames, made where the network trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.dataset import Sample
from rt_segmentation.data.mixing import Mixing
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.training.data import to_tensors
from rt_segmentation.training.on_device import looks
from rt_segmentation.training.on_device.draws import Draws, draw, fields_of

OUTSIDE_GRAY = 128


class Views:
    """Augmented views of frames that lie in a device's memory.

    The amounts have the distributions that `Augmentation` and `Mixing` have on the CPU, but the random
    numbers are others: a function of seed and step, for the whole batch. The other frame of a mixing is the
    next one of the batch. Pixels are rounded once, at the end.

    It is no part of the module that learns: not in its checkpoints, and not copied with it.

    Args:
        frames: all of them; smaller ones are kept in the corner of a canvas that fits the largest.
        augmentation, mixing: of the recipe.
        seed: of the recipe.
    """

    def __init__(
        self, frames: Sequence[Sample], augmentation: Augmentation, mixing: Mixing, seed: int
    ) -> None:
        self._augmentation, self._mixing, self._seed = augmentation, mixing, seed
        self._sizes = np.array([frame.labels.shape[::-1] for frame in frames])
        # Of two pixels or more: the sampler's places are fractions of the way from the first to the last.
        width, height = self._sizes.max(0).clip(2).tolist()
        self._images = torch.full((len(frames), 3, height, width), OUTSIDE_GRAY, dtype=torch.uint8)
        self._labels = torch.full((len(frames), 1, height, width), IGNORE_ID, dtype=torch.uint8)
        for index, frame in enumerate(frames):
            rows, columns = frame.labels.shape
            image, labels = to_tensors(frame)
            self._images[index, :, :rows, :columns] = image
            self._labels[index, 0, :rows, :columns] = labels

    def __deepcopy__(self, memo: dict[int, Any]) -> Views:
        return self

    def to(self, device: torch.device) -> None:
        """Keep the frames on a device."""
        if self._images.device != device:
            self._images, self._labels = self._images.to(device), self._labels.to(device)

    def draw(self, indices: torch.Tensor, step: int, rank: int) -> torch.Tensor:
        """Draw the amounts of a batch for a step of one process of the training.

        Args:
            indices: of the frames, int64 (N,), on the CPU.
            step: with rank and seed it decides what is drawn.
            rank: of the process.

        Returns:
            float32 (N, columns), on the CPU.
        """
        rng = np.random.default_rng((self._seed, step, rank))
        return torch.from_numpy(draw(self._augmentation, self._mixing, self._sizes[indices.numpy()], rng))

    @torch.no_grad()
    def make(self, indices: torch.Tensor, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make a batch where the frames are.

        Args:
            indices: of the frames, int64 (N,), there.
            table: that `draw` gave for them, there.

        Returns:
            Images, uint8 (N, 3, H, W), and labels, int64 (N, H, W).
        """
        draws = fields_of(table)
        # The steps compute in half precision; pixels do not.
        with torch.autocast(table.device.type, enabled=False):
            images, labels = self._crop(indices, draws)
            images, labels = self._mix(self._look(images, draws), labels, draws)
        return images.round().to(torch.uint8), labels[:, 0].long()

    def _crop(self, places: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        """Float images and labels of the crops' size; what a crop does not cover is gray and unlabelled."""
        width, height = self._augmentation.width, self._augmentation.height
        columns = torch.arange(width, device=places.device, dtype=torch.float32)
        rows = torch.arange(height, device=places.device, dtype=torch.float32)[:, None]
        a, b, c, d, e, f = (part.view(-1, 1, 1) for part in draws.crop.unbind(1))
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        size = self._images.shape
        grid = torch.stack((2 * x / (size[3] - 1) - 1, 2 * y / (size[2] - 1) - 1), -1)
        # The sampler takes 0 for what lies outside.
        images = F.grid_sample(self._images[places].float() - OUTSIDE_GRAY, grid, align_corners=True)
        labels = F.grid_sample(self._labels[places].float() - IGNORE_ID, grid, "nearest", align_corners=True)
        return images + OUTSIDE_GRAY, labels + IGNORE_ID

    def _look(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        look = self._augmentation.appearance
        images = looks.recolor(images, draws.color)
        if look.hue_deg or look.gray or look.white_balance or look.gamma:
            images = looks.tone(images, draws.matrix, draws.gains, draws.gamma)
        if look.shadow or look.vignette or look.haze:
            images = looks.light(images, draws.shadow, draws.vignette, draws.fog)
        if look.blur:
            images = looks.blur(images, draws.blur, look.blur)
        if look.noise:
            images = looks.add_noise(images, draws.noise)
        return looks.jpeg(images, draws.quality) if look.jpeg else images

    def _mix(
        self, images: torch.Tensor, labels: torch.Tensor, draws: Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixing = self._mixing
        others, their_labels = images.roll(1, 0), labels.roll(1, 0)
        if mixing.amplitude:
            images = looks.mix_amplitudes(images, others, mixing.amplitude_band, draws.amplitude)
        if mixing.paste:
            chosen = _chosen(their_labels, mixing.paste_classes) & (draws.paste > 0)
            pasted = chosen.gather(1, their_labels.flatten(1).long()).view(labels.shape)
            images, labels = (
                torch.where(pasted, *pair) for pair in ((others, images), (their_labels, labels))
            )
        return images, labels


def _chosen(labels: torch.Tensor, classes: tuple[int, ...]) -> torch.Tensor:
    """Which ids of labels (N, 1, H, W) are pasted, bool (N, 256): `classes`, or half of what occurs."""
    found = torch.zeros(len(labels), 256, device=labels.device)
    if classes:
        for c in classes:
            found.select(1, c).fill_(1)
        return found > 0
    found.scatter_(1, labels.flatten(1).long(), 1.0)
    found.select(1, IGNORE_ID).fill_(0)
    order = (found * torch.rand_like(found).clamp(min=1e-6)).argsort(1, descending=True).argsort(1)
    return order < (found.sum(1, keepdim=True) + 1) // 2
