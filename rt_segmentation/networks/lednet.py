"""LEDNet (Wang et al., ICIP 2019, arXiv:1905.02423)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.networks.padding import crop_like, pad_to_multiple

BATCH_NORM_EPS = 1e-3

# Table 1: dilations of the SS-nbt units of the third stage.
DILATIONS = (1, 2, 5, 9, 2, 5, 9, 17)


class DownsamplingUnit(nn.Module):
    """3x3 convolution /2 beside a 2x2 max pooling, concatenated (Section 2.2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out - channels_in, 3, 2, 1)
        self.pool = nn.MaxPool2d(2)
        self.bn = nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H/2, W/2)."""
        out: torch.Tensor = self.relu(self.bn(torch.cat((self.conv(x), self.pool(x)), 1)))
        return out


def conv_1d(channels: int, vertical: bool, dilation: int = 1) -> nn.Conv2d:
    """A 3x1 (vertical) or 1x3 convolution that keeps the size."""
    if vertical:
        return nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))
    return nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))


def branch(channels: int, vertical_first: bool, dilation: int) -> nn.Sequential:
    """One side of Fig. 2d: two pairs of 1-D convolutions, the second pair dilated."""
    first, second = vertical_first, not vertical_first
    return nn.Sequential(
        conv_1d(channels, first),
        nn.ReLU(inplace=True),
        conv_1d(channels, second),
        nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS),
        nn.ReLU(inplace=True),
        conv_1d(channels, first, dilation),
        nn.ReLU(inplace=True),
        conv_1d(channels, second, dilation),
        nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS),
    )


class SSnbt(nn.Module):
    """Split-shuffle-non-bottleneck unit (Fig. 2d): left branch 3x1 first, right branch 1x3 first."""

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.left = branch(channels // 2, True, dilation)
        self.right = branch(channels // 2, False, dilation)
        self.dropout = nn.Dropout2d(dropout)
        self.relu = nn.ReLU(inplace=True)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same shape."""
        left, right = x.chunk(2, 1)
        joined = self.dropout(torch.cat((self.left(left), self.right(right)), 1))
        out: torch.Tensor = self.shuffle(self.relu(x + joined))
        return out


class LEDNetEncoder(nn.Module):
    """The encoder of Table 1.

    The classifier is the authors': no layer of LEDNet uses it, it serves the training of the encoder alone.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            DownsamplingUnit(3, 32),
            *(SSnbt(32, 1, 0.03) for _ in range(3)),
            DownsamplingUnit(32, 64),
            *(SSnbt(64, 1, 0.03) for _ in range(2)),
            DownsamplingUnit(64, 128),
            *(SSnbt(128, dilation, 0.3) for dilation in DILATIONS),
        )
        self.classifier = nn.Conv2d(128, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W), H and W multiples of 8, to (N, 128, H/8, W/8)."""
        out: torch.Tensor = self.layers(images)
        return out


def conv_bn(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution that keeps the size (but for its stride), batch norm, ReLU unless switched off."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2),
        nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, corners aligned, to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def conv_pair_bn(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """`conv_bn` with its convolution decomposed into a vertical and a horizontal one, as in SS-nbt units."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, (kernel, 1), (stride, 1), (kernel // 2, 0)),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, (1, kernel), (1, stride), (0, kernel // 2)),
        nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS),
        nn.ReLU(inplace=True),
    )


class AttentionPyramid(nn.Module):
    """The attention pyramid network (APN) of Fig. 1.

    Args:
        num_classes: C, the channels of the middle and global branches.
        decoder: 'light' computes the attention with one channel, 'heavy' with 128 up to the last layer.
        apn: 'code', 'paper' and 'factorized', see `LEDNet`.
    """

    def __init__(self, num_classes: int, decoder: str, apn: str) -> None:
        super().__init__()
        k1, k2, k3 = (3, 5, 7) if apn == "paper" else (7, 5, 3)
        branch_relu = apn != "paper"
        conv = conv_pair_bn if apn == "factorized" else conv_bn
        self.global_branch = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), conv_bn(128, num_classes, 1, relu=branch_relu)
        )
        self.middle = conv_bn(128, num_classes, 1, relu=branch_relu)
        if decoder == "heavy":
            inner, outer = 128, num_classes
            self.lateral1, self.lateral2 = conv_bn(inner, outer, 1), conv_bn(inner, outer, 1)
            lateral3 = conv_bn(inner, outer, 1)
        else:
            inner = 1
            self.lateral1, self.lateral2 = conv(inner, inner, k1), conv(inner, inner, k2)
            lateral3 = conv(inner, inner, k3)
        self.down1 = conv(128, inner, k1, 2)
        self.down2 = conv(inner, inner, k2, 2)
        self.down3 = nn.Sequential(conv(inner, inner, k3, 2), lateral3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 128, h, w) to logits (N, num_classes, h, w)."""
        x1 = self.down1(x)
        x2 = self.down2(x1)
        attention = resize(self.down3(x2), x2) + self.lateral2(x2)
        attention = resize(attention, x1) + self.lateral1(x1)
        # The global branch is one pixel: broadcasting it is what the authors' interpolation does.
        out: torch.Tensor = resize(attention, x) * self.middle(x) + self.global_branch(x)
        return out


class LEDNet(nn.Module):
    """LEDNet: Table 1 of the paper.

    The default is what the authors' public code does: dilation only in the second pair of each SS-nbt unit,
    pyramid kernels 7-5-3, ReLU at the end of the middle and global branches (so that no logit is negative).
    With 20 classes it has 925,663 parameters ('light', one attention channel) or 2,288,140 ('heavy'), the
    encoder's unused classifier included; the paper's 0.94 M fits no published version.

    Args:
        num_classes: channels of the logits.
        decoder: 'light' or 'heavy' (D = 128).
        apn: 'code' as above; 'paper' has the pyramid 3-5-7 as Section 2.2 writes it and no ReLU in the middle
            and global branches before the output; 'factorized' is 'code' with each convolution of the
            pyramid decomposed into two 1-D convolutions, which Section 4 names as future work.

    Raises:
        ValueError: an option has another value.
    """

    multiple = 8

    def __init__(self, num_classes: int, decoder: str = "light", apn: str = "code") -> None:
        super().__init__()
        if decoder not in ("light", "heavy"):
            raise ValueError(f"decoder is '{decoder}', it must be 'light' or 'heavy'")
        if apn not in ("code", "paper", "factorized"):
            raise ValueError(f"apn is '{apn}', it must be 'code', 'paper' or 'factorized'")
        self.encoder = LEDNetEncoder(num_classes)
        self.apn = AttentionPyramid(num_classes, decoder, apn)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1] (N, 3, H, W) to logits (N, num_classes, H, W); H and W from 32 up."""
        padded = pad_to_multiple(images, self.multiple)
        return crop_like(resize(self.apn(self.encoder(padded)), padded), images)
