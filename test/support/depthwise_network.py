"""Networks that are not the package's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Depthwise(nn.Module):
    """Depthwise convolutions, an auxiliary head, sides of a multiple of 4."""

    multiple = 4

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 4, 1)
        self.depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.main, self.aux = nn.Conv2d(width, num_classes, 1), nn.Conv2d(width, num_classes, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        x = F.relu(self.norm(self.depthwise(self.stem(images))))
        return {"out": F.interpolate(self.main(x), images.shape[2:], mode="bilinear"), "aux": self.aux(x)}


class Coarse(nn.Module):
    """Its logits have half of the images' size, which is an error."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(images)
        return logits
