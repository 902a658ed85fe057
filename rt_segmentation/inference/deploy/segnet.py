"""SegNet's deploy graph."""

from __future__ import annotations

import torch
from torch import nn

from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.deploy.folding import fold
from rt_segmentation.inference.deploy.layers import MaxUnpool, max_pool
from rt_segmentation.networks.segnet import SegNet


class SegNetBody(Body):
    """SegNet with pooling by tournament and unpooling by masks."""

    def __init__(self, network: SegNet) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(fold(stage) for stage in network.encoder)
        self.decoder = nn.ModuleList(fold(stage) for stage in (*network.decoder, network.last))
        self.unpool = MaxUnpool()
        self.classifier = fold(network.classifier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, num_classes, H, W)."""
        x = images
        all_winners = []
        for stage in self.encoder:
            x, winners = max_pool(stage(x))
            all_winners.append(winners)
        for stage, winners in zip(self.decoder, reversed(all_winners)):
            x = stage(self.unpool(x, winners))
        out: torch.Tensor = self.classifier(x)
        return out
