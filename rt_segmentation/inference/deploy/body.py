"""What the deploy graphs of all networks have in common."""

from __future__ import annotations

import copy

import torch
from torch import nn

from rt_segmentation.networks.outputs import main_logits


class Body(nn.Module):
    """From padded images to coarse logits, as far as the classes of a pixel depend on one coarse pixel alone.

    The maximum over the classes may be taken before `spread`, where there is less to move.

    Attributes:
        phases: class maps for each coarse pixel: coarse channels are ordered phase by phase.
    """

    phases = 1

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """Coarse values (N, phases x maps, h, w) to full size (N, maps, H, W), padding included."""
        return coarse


class PlainBody(Body):
    """A network as it is, which has no rewriting of its own: logits at full size.

    Args:
        network: from images (N, 3, H, W) to logits (N, classes, H, W); it is copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Padded images (N, 3, H, W) to logits (N, classes, H, W)."""
        return main_logits(self.network(images), images)
