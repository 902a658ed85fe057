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
        # By planes: a softmax over channels that lie side by side takes ten times as long on a CPU.
        logits = logits.float().contiguous()
        if not (labels != IGNORE_ID).any():
            return 0 * logits.sum()
        settings = self.settings
        loss = logits.new_zeros(())
        if settings.cross_entropy:
            loss = loss + settings.cross_entropy * cross_entropy(
                logits, labels, self.weights, settings.label_smoothing, settings.ohem
            )
        if settings.dice or settings.lovasz:
            probabilities = logits.softmax(1)
            if settings.dice:
                loss = loss + settings.dice * dice_loss(probabilities, labels)
            if settings.lovasz:
                loss = loss + settings.lovasz * lovasz_softmax(probabilities, labels)
        return loss


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    label_smoothing: float = 0.0,
    ohem: float = 1.0,
) -> torch.Tensor:
    """Weighted cross-entropy over the `ohem` share of pixels with the largest, by the sum of their weights.

    Args:
        logits: (N, classes, H, W).
        labels: int64 (N, H, W), 255 = unlabelled.
        weights: of the classes, (classes,).
        label_smoothing: share of the truth that is spread over all classes.
        ohem: share of the labelled pixels, 1 or more (online hard example mining; Shrivastava, 2016).
    """
    if ohem == 1:
        return F.cross_entropy(
            logits, labels, weights, ignore_index=IGNORE_ID, label_smoothing=label_smoothing
        )
    losses = F.cross_entropy(
        logits, labels, weights, reduction="none", ignore_index=IGNORE_ID, label_smoothing=label_smoothing
    )
    labelled = labels != IGNORE_ID
    losses, truth = losses[labelled], labels[labelled]
    losses, hardest = losses.topk(math.ceil(ohem * len(losses)), sorted=False)
    return losses.sum() / weights[truth[hardest]].sum()


def dice_loss(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 minus the mean over classes of (2 |A and B| + 1) / (|A| + |B| + 1), in pixels (Milletari, 2016).

    Args:
        probabilities: (N, classes, H, W).
        labels: int64 (N, H, W), 255 = unlabelled.
    """
    classes = probabilities.shape[1]
    labelled = labels != IGNORE_ID
    probabilities = probabilities * labelled[:, None]
    # Any class does for the unlabelled, all of whose probabilities are 0 now.
    truth = labels.clamp(max=classes - 1)
    of_truth = probabilities.gather(1, truth[:, None]).flatten()
    overlap = probabilities.new_zeros(classes).index_add(0, truth.flatten(), of_truth)
    total = probabilities.sum((0, 2, 3)) + torch.bincount(truth[labelled], minlength=classes)
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def lovasz_softmax(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Lovasz extension of 1 - IoU, the mean over the classes that occur (Berman et al., 2018, Eq. 8 to 12).

    Args:
        probabilities: (pixels, classes), or (N, classes, H, W).
        labels: int64 of that shape without the classes, 255 = unlabelled.
    """
    places = (labels != IGNORE_ID).flatten().nonzero().flatten()
    truth = labels.flatten()[places]
    of_class = probabilities.unbind(1)
    losses = []
    for c in torch.bincount(truth).nonzero().flatten().tolist():
        errors = ((labels == c).to(probabilities.dtype) - of_class[c]).abs()
        # The weights are constants: all that has a gradient are the errors, in the order in which they are.
        weights = torch.zeros_like(errors).flatten()
        weights[places] = lovasz_weights(errors.detach().flatten()[places], truth == c)
        # No dot product: autocast would round it.
        losses.append((errors * weights.view_as(errors)).sum())
    return torch.stack(losses).mean()


def lovasz_weights(errors: torch.Tensor, is_class: torch.Tensor) -> torch.Tensor:
    """What errors weigh in the Lovasz extension: how 1 - IoU grows with each, the largest first.

    Args:
        errors: from 0 up, (pixels,).
        is_class: whether a pixel is of the class, (pixels,).
    """
    order = _descending(errors)
    sorted_truth = is_class[order].to(errors.dtype)
    # 1 - IoU of the set of the k pixels of largest error, for k = 1, 2, ...
    union = sorted_truth.sum() + (1 - sorted_truth).cumsum(0)
    loss_of_sets = 1 - (sorted_truth.sum() - sorted_truth.cumsum(0)) / union
    weights = torch.empty_like(errors)
    weights[order] = loss_of_sets.diff(prepend=loss_of_sets.new_zeros(1))
    return weights


def _descending(values: torch.Tensor) -> torch.Tensor:
    """Places of values from 0 up, the largest value's first."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return values.argsort(descending=True)
    # Bits of floats from 0 up are in the order of the floats: value and place make one integer, and NumPy
    # sorts integers in a tenth of the time that PyTorch takes for floats and their places.
    keys = values.numpy().view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return torch.from_numpy(keys[::-1].astype(np.uint32).astype(np.int64))
