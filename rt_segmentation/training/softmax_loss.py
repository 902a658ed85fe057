"""Cross-entropy, Dice and Lovasz-softmax together on a CPU: one softmax, and its gradient with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.training.recipe import Loss

Linear = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Probabilities and labels to what the probabilities weigh in a term, and a constant."""


def softmax_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, settings: Loss, lovasz: Linear
) -> torch.Tensor:
    """The sum of a recipe's terms without label smoothing and hard examples, in fewer passes over the logits.

    Args:
        logits: float32 (N, classes, H, W), by planes.
        labels: int64 (N, H, W), 255 = unlabelled; one is labelled at least.
        weights: of the classes in the cross-entropy, (classes,).
        settings: how much the terms count.
        lovasz: of the Lovasz softmax.
    """
    # It would round the products.
    with torch.autocast("cpu", enabled=False):
        function: Any = _SoftmaxLoss
        loss: torch.Tensor = function.apply(logits, labels, weights, settings, lovasz)
    return loss


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        settings: Loss,
        lovasz: Linear,
    ) -> torch.Tensor:
        classes = logits.shape[1]
        labelled = labels != IGNORE_ID
        # Any class does for the unlabelled, all of whose probabilities will be 0.
        truth = labels.clamp(max=classes - 1)
        log_probabilities = logits.log_softmax(1)
        loss = logits.new_zeros(())
        shares = torch.zeros_like(labels, dtype=torch.float32)
        if settings.cross_entropy:
            entropy = F.nll_loss(log_probabilities, labels, weights, ignore_index=IGNORE_ID)
            loss += settings.cross_entropy * entropy
            shares = weights[truth] * labelled
            shares *= settings.cross_entropy / shares.sum()
        probabilities = log_probabilities.exp_()
        probabilities *= labelled[:, None]
        of_truth = probabilities.gather(1, truth[:, None]).squeeze(1)
        # What the loss grows by with a class's probability, everywhere and where it is the truth.
        everywhere, at_truth = logits.new_zeros(classes), logits.new_zeros(classes)
        if settings.dice:
            counts = torch.bincount(truth[labelled], minlength=classes)
            total = probabilities.sum((0, 2, 3)) + counts + 1
            overlap = logits.new_zeros(classes).index_add(0, truth.flatten(), of_truth.flatten())
            scores = (2 * overlap + 1) / total
            loss += settings.dice * (1 - scores.mean())
            everywhere += settings.dice / classes * scores / total
            at_truth -= 2 * settings.dice / classes / total
        slopes = None
        if settings.lovasz:
            slopes, constant = lovasz(probabilities, labels)
            loss += settings.lovasz * ((probabilities * slopes).sum() + constant)
        if ctx.needs_input_grad[0]:
            # The gradient takes the place of the probabilities, frame by frame: what is in the cache is used.
            raised = of_truth * at_truth[truth]
            for frame, found in enumerate(probabilities):
                grows: torch.Tensor = everywhere[:, None, None]
                mean = torch.tensordot(everywhere, found, 1) + raised[frame]
                if slopes is not None:
                    grows = grows + settings.lovasz * slopes[frame]
                    mean += settings.lovasz * (found * slopes[frame]).sum(0)
                found.mul_(grows + (shares[frame] - mean))
            probabilities.scatter_add_(1, truth[:, None], (raised - shares)[:, None])
            ctx.save_for_backward(probabilities)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * gradient, None, None, None, None
