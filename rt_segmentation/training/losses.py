"""Losses over the labelled pixels: cross-entropy with class weights, Dice, Lovasz-softmax."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.data.statistics import ClassCounts
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.training.recipe import ClassWeights, Loss, Recipe


def build_loss(recipe: Recipe, counts: ClassCounts) -> SegmentationLoss:
    """A recipe's loss, for training frames with the counted classes."""
    return SegmentationLoss(recipe.loss, class_weights(recipe.loss.class_weights, counts))


def class_weights(settings: ClassWeights, counts: ClassCounts) -> np.ndarray:
    """Weights of the classes, float64 (classes,); by 'median', a class that never occurs has 0."""
    if settings.how == "log":
        return counts.log_weights(settings.c)
    if settings.how == "median":
        return np.asarray(np.nan_to_num(counts.median_frequency_weights()))
    return np.ones(len(counts.pixels))


class SegmentationLoss(nn.Module):
    """The sum of a recipe's terms.

    Args:
        settings: the terms.
        weights: of the classes in the cross-entropy, (classes,).
    """

    weights: torch.Tensor

    def __init__(self, settings: Loss, weights: np.ndarray) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes, H, W) and labels int64 (N, H, W), 255 = unlabelled, to a scalar.

        Without a labelled pixel it is 0.
        """
        labelled = labels != IGNORE_ID
        # One row a labelled pixel: (pixels, classes) and (pixels,).
        rows, truth = logits.float().movedim(1, -1)[labelled], labels[labelled]
        if not len(truth):
            return rows.sum()
        settings = self.settings
        loss = rows.new_zeros(())
        if settings.cross_entropy:
            loss = loss + settings.cross_entropy * cross_entropy(
                rows, truth, self.weights, settings.label_smoothing, settings.ohem
            )
        if settings.dice or settings.lovasz:
            probabilities = rows.softmax(1)
            if settings.dice:
                loss = loss + settings.dice * dice_loss(probabilities, truth)
            if settings.lovasz:
                loss = loss + settings.lovasz * lovasz_softmax(probabilities, truth)
        return loss


def cross_entropy(
    logits: torch.Tensor,
    truth: torch.Tensor,
    weights: torch.Tensor,
    label_smoothing: float = 0.0,
    ohem: float = 1.0,
) -> torch.Tensor:
    """Weighted cross-entropy over the `ohem` share of pixels with the largest, by the sum of their weights.

    Args:
        logits: (pixels, classes).
        truth: int64 (pixels,).
        weights: of the classes, (classes,).
        label_smoothing: share of the truth that is spread over all classes.
        ohem: share of the pixels, at least one (online hard example mining; Shrivastava et al., 2016).
    """
    losses = F.cross_entropy(logits, truth, weights, reduction="none", label_smoothing=label_smoothing)
    pixel_weights = weights[truth]
    if ohem < 1:
        losses, hardest = losses.topk(math.ceil(ohem * len(losses)), sorted=False)
        pixel_weights = pixel_weights[hardest]
    return losses.sum() / pixel_weights.sum()


def dice_loss(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 minus the mean over classes of (2 |A and B| + 1) / (|A| + |B| + 1), in pixels (Milletari, 2016).

    Args:
        probabilities: (pixels, classes).
        truth: int64 (pixels,).
    """
    classes = probabilities.shape[1]
    overlap = torch.zeros_like(probabilities[0]).index_add(
        0, truth, probabilities.gather(1, truth[:, None]).squeeze(1)
    )
    total = probabilities.sum(0) + torch.bincount(truth, minlength=classes)
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def lovasz_softmax(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Lovasz extension of 1 - IoU, the mean over the classes that occur (Berman et al., 2018, Eq. 8 to 12).

    Args:
        probabilities: (pixels, classes).
        truth: int64 (pixels,).
    """
    losses = []
    for c in torch.bincount(truth).nonzero().flatten().tolist():
        is_class = (truth == c).to(probabilities.dtype)
        errors, order = (is_class - probabilities[:, c]).abs().sort(descending=True)
        is_class = is_class[order]
        # 1 - IoU of the set of the k pixels of largest error, for k = 1, 2, …; its growth weighs the errors.
        union = is_class.sum() + (1 - is_class).cumsum(0)
        loss_of_sets = 1 - (is_class.sum() - is_class.cumsum(0)) / union
        # No dot product: autocast would round it.
        losses.append((errors * loss_of_sets.diff(prepend=loss_of_sets.new_zeros(1))).sum())
    return torch.stack(losses).mean()
