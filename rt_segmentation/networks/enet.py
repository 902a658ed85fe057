"""ENet (Paszke, Chaurasia, Kim and Culurciello, 2016, arXiv:1606.02147), as its authors released it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.networks.padding import crop_like, pad_to_multiple
from rt_segmentation.networks.unpooling import max_unpool

BATCH_NORM_EPS = 1e-3

# Stages 2 and 3 of Table 1, without bottleneck2.0: (name, dilation); None is the asymmetric 5 pair.
CONTEXT_STAGE: tuple[int | None, ...] = (1, 2, None, 4, 1, 8, None, 16)


def normalised(*layers: nn.Module, channels: int) -> nn.Sequential:
    """The layers, then batch norm and a PReLU with one slope a channel."""
    return nn.Sequential(*layers, nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS), nn.PReLU(channels))


class InitialBlock(nn.Module):
    """Fig. 1a: 13 filters 3x3 /2 beside a 2x2 max pooling, concatenated to 16 maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, 2, 1)
        self.pool = nn.MaxPool2d(2)
        self.activation = normalised(channels=16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 16, H/2, W/2)."""
        out: torch.Tensor = self.activation(torch.cat((self.conv(images), self.pool(images)), 1))
        return out


class Bottleneck(nn.Module):
    """Fig. 1b: 1x1 projection to a quarter, main convolution, 1x1 expansion; added to its input.

    Args:
        channels: of input and output.
        dilation: of the 3x3 convolution, or None for the asymmetric pair 1x5, 5x1.
        dropout: probability of the spatial dropout; 0 in the decoder.
    """

    def __init__(self, channels: int, dilation: int | None = 1, dropout: float = 0.0) -> None:
        super().__init__()
        inner = channels // 4
        self.project = normalised(nn.Conv2d(channels, inner, 1, bias=False), channels=inner)
        if dilation is None:
            main: tuple[nn.Module, ...] = (
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0)),
            )
        else:
            main = (nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation),)
        self.main = normalised(*main, channels=inner)
        self.expand = nn.Sequential(
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.activation = nn.PReLU(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same shape."""
        out: torch.Tensor = self.activation(x + self.dropout(self.expand(self.main(self.project(x)))))
        return out


class DownsamplingBottleneck(nn.Module):
    """A bottleneck whose projection is 2x2 /2 and whose main branch pools 2x2 and appends zero maps."""

    def __init__(self, channels_in: int, channels_out: int, dropout: float) -> None:
        super().__init__()
        inner = channels_out // 4
        self.zero_maps = channels_out - channels_in
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.project = normalised(nn.Conv2d(channels_in, inner, 2, 2, bias=False), channels=inner)
        self.main = normalised(nn.Conv2d(inner, inner, 3, padding=1), channels=inner)
        self.expand = nn.Sequential(
            nn.Conv2d(inner, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.activation = nn.PReLU(channels_out)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, channels_in, H, W) to (N, channels_out, H/2, W/2) and the pooling's indices."""
        pooled, indices = self.pool(x)
        pooled = F.pad(pooled, (0, 0, 0, 0, 0, self.zero_maps))
        out = self.activation(pooled + self.dropout(self.expand(self.main(self.project(x)))))
        return out, indices


class UpsamplingBottleneck(nn.Module):
    """A bottleneck whose main branch is a 1x1 convolution and max unpooling, its `conv` a full 3x3 *2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        inner = channels_out // 4
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS),
        )
        self.project = normalised(nn.Conv2d(channels_in, inner, 1, bias=False), channels=inner)
        self.main = normalised(nn.ConvTranspose2d(inner, inner, 3, 2, 1, 1), channels=inner)
        self.expand = nn.Sequential(
            nn.Conv2d(inner, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS)
        )
        self.activation = nn.PReLU(channels_out)

    def forward(self, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """(N, channels_in, H, W) and the indices of a pooling to H x W, to (N, channels_out, 2H, 2W)."""
        unpooled = max_unpool(self.shortcut(x), indices)
        out: torch.Tensor = self.activation(unpooled + self.expand(self.main(self.project(x))))
        return out


class ENetEncoder(nn.Module):
    """The initial block and stages 1 to 3 of Table 1."""

    def __init__(self) -> None:
        super().__init__()
        self.initial = InitialBlock()
        self.down1 = DownsamplingBottleneck(16, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = DownsamplingBottleneck(64, 128, dropout=0.1)
        self.stage2 = nn.Sequential(*(Bottleneck(128, dilation, 0.1) for dilation in CONTEXT_STAGE))
        self.stage3 = nn.Sequential(*(Bottleneck(128, dilation, 0.1) for dilation in CONTEXT_STAGE))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, 3, H, W), H and W multiples of 8, to (N, 128, H/8, W/8) and the indices of both poolings."""
        x, indices1 = self.down1(self.initial(images))
        x, indices2 = self.down2(self.stage1(x))
        return self.stage3(self.stage2(x)), indices1, indices2


class ENetEncoderClassifier(nn.Module):
    """The encoder with a classifier of its own: the first of the paper's training stages (Section 5.2)."""

    multiple = 8

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.encoder = ENetEncoder()
        self.classifier = nn.Conv2d(128, num_classes, 1)

    def forward_coarse(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) to the logits of 8x8 regions (N, num_classes, ceil(H/8), ceil(W/8))."""
        out: torch.Tensor = self.classifier(self.encoder(pad_to_multiple(images, self.multiple))[0])
        return out

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes, H, W), each region's logits repeated."""
        return crop_like(F.interpolate(self.forward_coarse(images), scale_factor=8.0), images)


class ENet(nn.Module):
    """ENet: Table 1 of the paper, 363,412 + 65 x num_classes parameters.

    Where the paper leaves a choice, this follows the authors' released Torch7 model: PReLU in the decoder as
    well; biases in the initial, all 3x3, the second asymmetric and the full convolutions, none in projections
    and expansions; no activation after an expansion; no dropout in the decoder; batch-norm eps 1e-3.
    """

    multiple = 8

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.encoder = ENetEncoder()
        self.up4 = UpsamplingBottleneck(128, 64)
        self.stage4 = nn.Sequential(Bottleneck(64), Bottleneck(64))
        self.up5 = UpsamplingBottleneck(64, 16)
        self.stage5 = Bottleneck(16)
        self.classifier = nn.ConvTranspose2d(16, num_classes, 2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1] (N, 3, H, W) to logits (N, num_classes, H, W); H and W from 32 up."""
        x, indices1, indices2 = self.encoder(pad_to_multiple(images, self.multiple))
        x = self.stage4(self.up4(x, indices2))
        x = self.stage5(self.up5(x, indices1))
        return crop_like(self.classifier(x), images)
