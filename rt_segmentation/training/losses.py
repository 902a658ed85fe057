"""Losses over the labelled pixels: cross-entropy with class weights, Dice, Lovasz-softmax."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.data.statistics import ClassCounts
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.training.recipe import ClassWeights, Loss, Recipe
from rt_segmentation.training.softmax_loss import softmax_loss


def build_loss(recipe: Recipe, counts: ClassCounts) -> SegmentationLoss:
    """A recipe's loss, for training frames with the counted classes."""
    return SegmentationLoss(recipe.loss, class_weights(recipe.loss.class_weights, counts))


def class_weights(settings: ClassWeights, counts: ClassCounts) -> np.ndarray:
    """Weights of the classes, float64 (classes,); by 'median', a class that never occurs has 0.

    All are 1 where nothing is labelled, and teachers alone say what a pixel is.
    """
    if not counts.pixels.any():
        return np.ones(len(counts.pixels))
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
        # On a GPU nothing may wait for what a tensor holds; the terms are 0 there by themselves.
        if not labels.is_cuda and not (labels != IGNORE_ID).any():
            return 0 * logits.sum()
        settings = self.settings
        if logits.device.type == "cpu" and settings.ohem == 1 and not settings.label_smoothing:
            return softmax_loss(logits, labels, self.weights, settings, _lovasz_on_cpu)
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
    if ohem == 1 and not logits.is_cuda:
        return F.cross_entropy(
            logits, labels, weights, ignore_index=IGNORE_ID, label_smoothing=label_smoothing
        )
    if ohem == 1:
        total = F.cross_entropy(
            logits,
            labels,
            weights,
            reduction="sum",
            ignore_index=IGNORE_ID,
            label_smoothing=label_smoothing,
        )
        of_labels = weights[labels.clamp(max=len(weights) - 1)] * (labels != IGNORE_ID)
        return total / of_labels.sum().clamp(min=torch.finfo(of_labels.dtype).tiny)
    losses = F.cross_entropy(
        logits, labels, weights, reduction="none", ignore_index=IGNORE_ID, label_smoothing=label_smoothing
    )
    labelled = labels != IGNORE_ID
    losses, truth = losses[labelled], labels[labelled]
    losses, hardest = losses.topk(math.ceil(ohem * len(losses)), sorted=False)
    total = weights[truth[hardest]].sum()
    # Of no pixel both sums are 0.
    return losses.sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


def dice_loss(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 minus the mean over classes of (2 |A and B| + 1) / (|A| + |B| + 1), in pixels (Milletari, 2016).

    Args:
        probabilities: (N, classes, H, W).
        labels: int64 (N, H, W), 255 = unlabelled.
    """
    classes = probabilities.shape[1]
    labelled = labels != IGNORE_ID
    if probabilities.is_cuda:
        # Sums over planes: what adds up by index would have all threads wait for a dozen numbers.
        hits = labels[:, None] == torch.arange(classes, device=labels.device).view(1, -1, 1, 1)
        overlap = (probabilities * hits).sum((0, 2, 3))
        total = (probabilities * labelled[:, None]).sum((0, 2, 3)) + hits.sum((0, 2, 3))
        return 1 - ((2 * overlap + 1) / (total + 1)).mean()
    probabilities = probabilities * labelled[:, None]
    # Any class does for the unlabelled, all of whose probabilities are 0 now.
    truth = labels.clamp(max=classes - 1)
    of_truth = probabilities.gather(1, truth[:, None]).flatten()
    overlap = probabilities.new_zeros(classes).index_add(0, truth.flatten(), of_truth)
    total = probabilities.sum((0, 2, 3)) + torch.bincount(truth[labelled], minlength=classes)
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def lovasz_softmax(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Lovasz extension of 1 - IoU, the mean over the classes that occur (Berman et al., 2018, Eq. 8 to 12).

    It is a sum of the errors, which are 1 - p where a pixel is of the class and p elsewhere, with weights
    that depend on their order alone: all that has a gradient is one product.

    Args:
        probabilities: (pixels, classes), or (N, classes, H, W).
        labels: int64 of that shape without the classes, 255 = unlabelled.
    """
    known = probabilities.detach()
    on_cpu = known.device.type == "cpu" and known.dtype == torch.float32
    weights, constant = (_lovasz_on_cpu if on_cpu else _lovasz)(known, labels)
    # No dot product: autocast would round it.
    return (probabilities * weights).sum() + constant


def _lovasz(probabilities: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the probabilities weigh in the Lovasz softmax, and what is added to their sum.

    All classes are sorted together, and nothing waits for what a tensor holds. Unlabelled pixels come last,
    and weigh nothing.
    """
    classes = probabilities.shape[1]
    given = probabilities.transpose(0, 1).reshape(classes, -1)
    truth = labels.flatten()
    labelled = truth != IGNORE_ID
    is_class = truth == torch.arange(classes, device=labels.device)[:, None]
    errors = torch.where(is_class, 1 - given, given).masked_fill(~labelled, -1)
    order = errors.argsort(1, descending=True)
    hits = is_class.gather(1, order).to(given.dtype)
    misses = labelled[order].to(given.dtype) - hits
    number = hits.sum(1, keepdim=True)
    # 1 - IoU of the set of the k pixels of largest error, for k = 1, 2, ...: its growth are the weights.
    loss_of_sets = 1 - (number - hits.cumsum(1)) / (number + misses.cumsum(1)).clamp(min=1)
    growth = loss_of_sets.diff(dim=1, prepend=loss_of_sets.new_zeros(classes, 1))
    occurring = (number > 0).to(given.dtype)
    growth = growth * (occurring / occurring.sum().clamp(min=1)) * labelled[order]
    weights = torch.zeros_like(given).scatter(1, order, growth * (1 - 2 * hits))
    others = [probabilities.shape[i] for i in range(probabilities.ndim) if i != 1]
    return weights.view(classes, *others).transpose(0, 1), (growth * hits).sum()


def _lovasz_on_cpu(probabilities: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_lovasz`, for float32: NumPy sorts integers ten times as fast as PyTorch sorts floats.

    What weighs nothing is not sorted.
    """
    given, of_pixels = probabilities.numpy(), labels.numpy().ravel()
    places = np.flatnonzero(of_pixels != IGNORE_ID)
    truth = of_pixels[places].astype(np.uint8)
    counts = np.bincount(truth)
    classes = np.flatnonzero(counts)
    weights = np.zeros_like(given)

    def weigh(c: int) -> float:
        is_class = truth == c
        errors = given[:, c].reshape(-1)[places]
        np.subtract(1, errors, out=errors, where=is_class)
        np.maximum(errors, 0, out=errors)
        # After the class's last pixel the loss of sets stays at 1: what has a smaller error weighs nothing.
        chosen = np.flatnonzero(errors >= errors[is_class].min())
        # Bits of floats from 0 up are in the floats' order: error, place and class are one integer.
        keys = errors[chosen].view(np.uint32).astype(np.uint64) << np.uint64(32)
        keys |= (chosen << 1).view(np.uint64)
        keys |= is_class[chosen]
        keys.sort()
        low = keys[::-1].astype(np.uint32)
        hits = (low & np.uint32(1)).astype(bool)
        found = hits.cumsum()
        loss_of_sets = 1 - (counts[c] - found) / (counts[c] + np.arange(1, len(found) + 1) - found)
        growth = np.diff(loss_of_sets, prepend=0.0) / len(classes)
        plane = np.zeros(labels.numel(), np.float32)
        plane[places[low >> np.uint32(1)]] = np.where(hits, -growth, growth)
        weights[:, c] = plane.reshape(labels.shape)
        return float(growth[hits].sum())

    # NumPy works on one core, and lets other threads work. PyTorch would start threads in each of them.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        constant = sum(pool.map(weigh, classes.tolist()))
    return torch.from_numpy(weights), torch.tensor(constant, dtype=torch.float32)
