"""Distillation: a network learns what an ensemble of trained ones says of each pixel, labelled or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.inference.network import load_network
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelManifest
from rt_segmentation.networks.outputs import logits_for, multiple_of
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.initialise import find_start
from rt_segmentation.training.recipe import Distillation, Recipe

SMALLEST_SIDE_PX = 32
"""Of what a network takes."""


def find_teachers(recipe: Recipe, runs: Path) -> list[ModelManifest]:
    """The models that a recipe learns from.

    Args:
        recipe: its `distillation` names them, as `init_from` names a start.
        runs: folder of the trainings' run folders.

    Raises:
        ModelError: there is none of a name, or its training has not ended.
        TrainingError: one is an encoder alone, or has other classes.
    """
    class_names = load_label_set(recipe.label_set).names
    teachers = []
    for name in recipe.distillation.teachers:
        found = find_start(name, runs / Path(name).name)
        if isinstance(found, Path):
            raise TrainingError(f"teacher '{name}' is an encoder alone, which knows nothing of pixels")
        if found.labels().names != class_names:
            raise TrainingError(
                f"teacher '{name}' has the classes of {found.label_set}, recipe '{recipe.name}' wants"
                f" {recipe.label_set}"
            )
        teachers.append(found)
    return teachers


class Member(NamedTuple):
    """A network, and how its input is normalised: mean and std, (1, 3, 1, 1)."""

    network: nn.Module
    mean: torch.Tensor
    std: torch.Tensor


class Teachers:
    """An ensemble that says how probable each class is at each pixel.

    It is no part of the module that learns: not in its checkpoints, and not copied with it.

    Args:
        manifests: the models, one or more.
        settings: temperature, scales and mirror images.
    """

    def __init__(self, manifests: Sequence[ModelManifest], settings: Distillation) -> None:
        self._settings = settings
        self._members = [
            Member(
                load_network(manifest).requires_grad_(False),
                torch.tensor(manifest.mean).view(1, 3, 1, 1),
                torch.tensor(manifest.std).view(1, 3, 1, 1),
            )
            for manifest in manifests
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> Teachers:
        return self

    @torch.no_grad()
    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Mean over models, scales and mirror images of the softened probabilities.

        Args:
            images: uint8 (N, 3, H, W).

        Returns:
            float32 (N, classes, H, W), on the images' device.
        """
        scaled = images.float() / 255
        views = []
        self._move_to(images.device)
        for network, mean, std in self._members:
            normalised = (scaled - mean) / std
            for scale in self._settings.scales:
                view, multiple = _resized(normalised, scale), multiple_of(network)
                views.append(self._soften(logits_for(network, view, multiple), images))
                if self._settings.flip:
                    mirrored = logits_for(network, view.flip(3), multiple)
                    views.append(self._soften(mirrored.flip(3), images))
        return torch.stack(views).mean(0)

    def _move_to(self, device: torch.device) -> None:
        """Once: while passes are recorded, nothing may be sent."""
        if self._members[0].mean.device != device:
            self._members = [
                Member(network.to(device), mean.to(device), std.to(device))
                for network, mean, std in self._members
            ]

    def _soften(self, logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        logits = logits.float().contiguous()
        if logits.shape[2:] != images.shape[2:]:
            logits = F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)
        return (logits / self._settings.temperature).softmax(1)

    def loss(self, images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The recipe's weight times `soft_loss`, for images as above and the student's logits of them."""
        return self._settings.weight * soft_loss(
            logits, self.probabilities(images), self._settings.temperature
        )


def soft_loss(logits: torch.Tensor, probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of softened logits from the teacher's probabilities, mean over all pixels.

    It is multiplied by the temperature's square, so that its gradients keep their size beside those of the
    labels (Hinton, Vinyals and Dean, 2015, Section 2).

    Args:
        logits: (N, classes, H, W).
        probabilities: softened by the same temperature, of the same shape.
        temperature: above 0; the larger, the more the improbable classes count.
    """
    log_student = (logits.float().contiguous() / temperature).log_softmax(1)
    pixels = logits.shape[0] * logits.shape[2] * logits.shape[3]
    return F.kl_div(log_student, probabilities, reduction="sum") * (temperature**2 / pixels)


def _resized(images: torch.Tensor, scale: float) -> torch.Tensor:
    if scale == 1:
        return images.contiguous(memory_format=torch.channels_last)
    size = [max(SMALLEST_SIDE_PX, round(side * scale)) for side in images.shape[2:]]
    resized = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)
