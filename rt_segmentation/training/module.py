"""The Lightning module: loss, optimiser, schedule, validation."""

from __future__ import annotations

import math
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.networks import build_network
from rt_segmentation.training.data import Batch
from rt_segmentation.training.losses import SegmentationLoss
from rt_segmentation.training.recipe import Recipe

WARMUP = 0.15
"""Share of the steps in which the learning rate rises; then it falls as a cosine to zero."""


class TrainingError(RuntimeError):
    """The training cannot go on; the message says at which step and why."""


class SegmentationModule(lightning.LightningModule):
    """Trains a network as a recipe says; batches are uint8 images and int64 labels."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, recipe: Recipe, num_classes: int, weights: np.ndarray) -> None:
        super().__init__()
        self.recipe = recipe
        self.network: nn.Module = build_network(recipe.network, num_classes, **recipe.options)
        # torch's stubs lack the one-argument form.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = SegmentationLoss(weights, recipe.dice)
        self.register_buffer("mean", torch.tensor(recipe.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(recipe.std).view(1, 3, 1, 1))
        self._confusion = ConfusionMatrix(num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, 3, H, W) to logits (N, classes, H, W)."""
        normalised = (images.float() / 255 - self.mean) / self.std
        # A compiled network is compiled for the training batches' shape alone.
        network = self.network if self.training else self.network.forward
        logits: torch.Tensor = network(normalised.contiguous(memory_format=torch.channels_last))
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Loss of a batch.

        Raises:
            TrainingError: the loss is not a number.
        """
        images, labels = batch
        loss: torch.Tensor = self.loss(self(images), labels)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.global_step}; lower the learning rate"
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._confusion.counts[:] = 0

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a batch's pixels."""
        images, labels = batch
        predicted = self(images).argmax(1)
        self._confusion.update(
            labels.cpu().numpy().astype(np.uint8), predicted.cpu().numpy().astype(np.uint8)
        )

    def on_validation_epoch_end(self) -> None:
        """Log the mean IoU."""
        self.log("mean_iou", self._confusion.mean_iou(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW (no decay on biases, norms and slopes) with a warm-up and a cosine, by step."""
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate at a step: linear from 0.04 to 1 in the warm-up, then a cosine to 0."""
    warmup = max(1, int(steps * WARMUP))
    if step < warmup:
        return 0.04 + 0.96 * step / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
