"""LinkNet's deploy graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.deploy.folding import PHASES, fold
from rt_segmentation.inference.deploy.layers import PixelShuffle
from rt_segmentation.networks.linknet import BasicBlock, LinkNet


class Residual(nn.Module):
    """ResNet's block without batch norm."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.main = fold(block.conv1, block.bn1, block.relu, block.conv2, block.bn2)
        self.shortcut = nn.Identity() if block.downsample is None else fold(block.downsample)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `BasicBlock.forward`."""
        return F.relu(self.main(x) + self.shortcut(x))


class LinkNetBody(Body):
    """LinkNet up to the phases of its last upsampling: coarse logits at half size."""

    phases = PHASES

    def __init__(self, network: LinkNet) -> None:
        super().__init__()
        self.bypass = network.bypass
        self.stem = fold(network.conv1, network.bn1, network.relu)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(Residual(block) for block in layer if isinstance(block, BasicBlock)))
            for layer in (network.layer1, network.layer2, network.layer3, network.layer4)
        )
        self.decoder = nn.ModuleList(
            fold(block.conv1, block.full_conv, block.conv2)
            for block in (network.decoder4, network.decoder3, network.decoder2, network.decoder1)
        )
        self.head = fold(network.head, network.classifier, shuffle_last=False)
        self.shuffle = PixelShuffle()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 4 x num_classes, H / 2, W / 2)."""
        x = F.max_pool2d(self.stem(images), 3, 2, 1)
        skips = []
        for layer in self.encoder:
            skips.append(x)
            x = layer(x)
        for block, skip in zip(self.decoder, reversed(skips)):
            x = block(x) + skip if self.bypass else block(x)
        out: torch.Tensor = self.head(x)
        return out

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """Interleave the phases."""
        out: torch.Tensor = self.shuffle(coarse)
        return out
