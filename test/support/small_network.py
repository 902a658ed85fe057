"""A network that is quick to train, for tests of what training does beside the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SMALL = "support.small_network:SmallNetwork"
"""The network's name in a recipe."""


class SmallNetwork(nn.Module):
    """What networks here have that a training must carry over: batch norm, dropout, a learnt slope."""

    multiple = 8

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, 4, 2, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.slope = nn.PReLU(16)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(16, num_classes, 3, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.dropout(self.slope(self.norm(self.stem(images))))
        return F.interpolate(self.classifier(features), images.shape[2:], mode="bilinear")
