"""ENet's deploy graph, and its encoder's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.deploy.folding import PHASES, affine, fold, like, prelu, scaled
from rt_segmentation.inference.deploy.layers import MaxUnpool, PixelShuffle, PoolAffine, Winners, max_pool
from rt_segmentation.networks.enet import (
    Bottleneck,
    DownsamplingBottleneck,
    ENet,
    ENetEncoder,
    ENetEncoderClassifier,
    InitialBlock,
    UpsamplingBottleneck,
)


class Initial(nn.Module):
    """Fig. 1a: batch norm and activation on each side of the concatenation."""

    def __init__(self, block: InitialBlock) -> None:
        super().__init__()
        filters = block.conv.out_channels
        bn, activation = block.activation
        assert isinstance(bn, nn.BatchNorm2d) and isinstance(activation, nn.PReLU)
        scale, shift = affine(bn)
        slopes = activation.weight
        conv = scaled(block.conv, scale[:filters], shift[:filters])
        self.conv = nn.Sequential(conv, prelu(slopes[:filters]))
        self.pool = nn.Sequential(PoolAffine(scale[filters:], shift[filters:]), prelu(slopes[filters:]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 16, H/2, W/2)."""
        return torch.cat((self.conv(images), self.pool(images)), 1)


class Residual(nn.Module):
    """Fig. 1b without batch norm."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.main = fold(block.project, block.main, block.expand)
        self.activation = prelu(block.activation.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        out: torch.Tensor = self.activation(x + self.main(x))
        return out


def residuals(blocks: Iterable[nn.Module]) -> nn.Sequential:
    """Bottlenecks one after another."""
    return nn.Sequential(*(Residual(block) for block in blocks if isinstance(block, Bottleneck)))


class Down(nn.Module):
    """A downsampling bottleneck: the zero maps become outputs that nothing is added to."""

    def __init__(self, block: DownsamplingBottleneck) -> None:
        super().__init__()
        self.inner = fold(block.project, block.main)
        conv, bn = block.expand
        assert isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d)
        pooled = conv.out_channels - block.zero_maps
        scale, shift = affine(bn)
        whole = scaled(conv, scale, shift)
        assert whole.bias is not None
        self.added = like(whole, whole.weight[:pooled], whole.bias[:pooled])
        self.alone = like(whole, whole.weight[pooled:], whole.bias[pooled:])
        slopes = block.activation.weight
        self.added_activation, self.alone_activation = prelu(slopes[:pooled]), prelu(slopes[pooled:])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Winners]:
        """(N, channels_in, H, W) to (N, channels_out, H/2, W/2) and where the pooling's maxima were."""
        pooled, winners = max_pool(x)
        inner = self.inner(x)
        added = self.added_activation(pooled + self.added(inner))
        return torch.cat((added, self.alone_activation(self.alone(inner))), 1), winners


class Up(nn.Module):
    """An upsampling bottleneck."""

    def __init__(self, block: UpsamplingBottleneck) -> None:
        super().__init__()
        self.shortcut = fold(block.shortcut)
        self.unpool = MaxUnpool()
        self.main = fold(block.project, block.main, block.expand)
        self.activation = prelu(block.activation.weight)

    def forward(self, x: torch.Tensor, winners: Winners) -> torch.Tensor:
        """(N, channels_in, H, W) to (N, channels_out, 2H, 2W)."""
        out: torch.Tensor = self.activation(self.unpool(self.shortcut(x), winners) + self.main(x))
        return out


class Encoder(nn.Module):
    """The initial block and stages 1 to 3."""

    def __init__(self, encoder: ENetEncoder) -> None:
        super().__init__()
        self.initial = Initial(encoder.initial)
        self.down1, self.down2 = Down(encoder.down1), Down(encoder.down2)
        self.stage1, self.context = (
            residuals(blocks) for blocks in (encoder.stage1, (*encoder.stage2, *encoder.stage3))
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, Winners, Winners]:
        """As `ENetEncoder.forward`, with `Winners` instead of indices."""
        x, winners1 = self.down1(self.initial(images))
        x, winners2 = self.down2(self.stage1(x))
        return self.context(x), winners1, winners2


class ENetEncoderBody(Body):
    """The encoder with its own classifier: coarse logits of 8x8 regions."""

    def __init__(self, network: ENetEncoderClassifier) -> None:
        super().__init__()
        self.encoder = Encoder(network.encoder)
        self.classifier = fold(network.classifier)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, num_classes, H / 8, W / 8)."""
        out: torch.Tensor = self.classifier(self.encoder(images)[0])
        return out

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """Repeat each region's values."""
        return F.interpolate(coarse, scale_factor=8.0, mode="nearest")


class ENetBody(Body):
    """ENet up to the phases of its full convolution: coarse logits at half size."""

    phases = PHASES

    def __init__(self, network: ENet) -> None:
        super().__init__()
        self.encoder = Encoder(network.encoder)
        self.up4, self.up5 = Up(network.up4), Up(network.up5)
        self.stage4 = residuals(network.stage4)
        self.stage5 = Residual(network.stage5)
        self.classifier = fold(network.classifier, shuffle_last=False)
        self.shuffle = PixelShuffle()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 4 x num_classes, H / 2, W / 2)."""
        x, winners1, winners2 = self.encoder(images)
        x = self.stage4(self.up4(x, winners2))
        out: torch.Tensor = self.classifier(self.stage5(self.up5(x, winners1)))
        return out

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """Interleave the phases."""
        out: torch.Tensor = self.shuffle(coarse)
        return out
