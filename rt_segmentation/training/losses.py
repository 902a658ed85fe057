"""Class weights and losses."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.labels import IGNORE_ID


def class_weights(frequencies: np.ndarray, c: float = 1.02) -> np.ndarray:
    """W = 1 / ln(c + p): ENet, Section 5.2, and LinkNet, Section IV.B; p sums to 1, float64 (classes,)."""
    return np.asarray(1.0 / np.log(c + frequencies))


class SegmentationLoss(nn.Module):
    """Weighted cross-entropy plus, if asked for, a soft Dice term, over the labelled pixels.

    Args:
        weights: of the classes, (classes,).
        dice: factor of the Dice term, which is 1 minus the mean over classes of 2|A and B| / (|A| + |B|).
    """

    weights: torch.Tensor

    def __init__(self, weights: np.ndarray, dice: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32))
        self.dice = dice

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes, H, W) and labels int64 (N, H, W), 255 = unlabelled, to a scalar."""
        logits = logits.float()
        loss = F.cross_entropy(logits, labels, self.weights, ignore_index=IGNORE_ID)
        if self.dice:
            labelled = (labels != IGNORE_ID).unsqueeze(1)
            probabilities = logits.softmax(1) * labelled
            truth = (
                F.one_hot(labels.clamp(max=logits.shape[1] - 1), logits.shape[1]).movedim(-1, 1) * labelled
            )
            overlap = 2 * (probabilities * truth).sum((0, 2, 3))
            total = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
            loss = loss + self.dice * (1 - ((overlap + 1) / (total + 1)).mean())
        return loss
