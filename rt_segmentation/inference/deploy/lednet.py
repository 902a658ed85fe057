"""LEDNet's deploy graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.deploy.folding import affine, fold, like, scaled
from rt_segmentation.inference.deploy.layers import PoolAffine
from rt_segmentation.networks.lednet import AttentionPyramid, DownsamplingUnit, LEDNet, SSnbt, resize


class Down(nn.Module):
    """A downsampling unit: batch norm on each side of the concatenation."""

    def __init__(self, unit: DownsamplingUnit) -> None:
        super().__init__()
        filters = unit.conv.out_channels
        scale, shift = affine(unit.bn)
        self.conv = scaled(unit.conv, scale[:filters], shift[:filters])
        self.pool = PoolAffine(scale[filters:], shift[filters:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H/2, W/2)."""
        return F.relu(torch.cat((self.conv(x), self.pool(x)), 1))


class SplitResidual(nn.Module):
    """An SS-nbt unit.

    Split and shuffle stay: dense 1-D convolutions over all channels would take them in, with more arithmetic.

    Args:
        unit: the network's.
        shuffle: False leaves the halves one after another, for convolutions that take the order in.
    """

    def __init__(self, unit: SSnbt, shuffle: bool) -> None:
        super().__init__()
        self.left, self.right = fold(unit.left), fold(unit.right)
        self.side = unit.left.get_parameter("0.weight").shape[1]
        self.shuffle = shuffle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        left, right = self.left(x[:, : self.side]), self.right(x[:, self.side :])
        x = F.relu(x + torch.cat((left, right), 1))
        if not self.shuffle:
            return x
        n, channels, height, width = x.shape
        halves = x.reshape(n, 2, self.side, height, width).permute(0, 2, 1, 3, 4)
        out: torch.Tensor = halves.reshape(n, channels, height, width)
        return out


class Pyramid(nn.Module):
    """The attention pyramid, for features whose last channel shuffle was left out."""

    def __init__(self, apn: AttentionPyramid) -> None:
        super().__init__()
        self.global_branch = _unshuffled(fold(*list(apn.global_branch.children())[1:]))
        self.middle = _unshuffled(fold(apn.middle))
        self.down1 = _unshuffled(fold(apn.down1))
        self.down2, self.down3 = fold(apn.down2), fold(apn.down3)
        self.lateral1, self.lateral2 = fold(apn.lateral1), fold(apn.lateral2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 128, h, w) to logits (N, num_classes, h, w)."""
        x1 = self.down1(x)
        x2 = self.down2(x1)
        attention = resize(self.down3(x2), x2) + self.lateral2(x2)
        attention = resize(attention, x1) + self.lateral1(x1)
        context = self.global_branch(x.mean((2, 3), keepdim=True))
        out: torch.Tensor = resize(attention, x) * self.middle(x) + context
        return out


class LEDNetBody(Body):
    """LEDNet: its logits are interpolated, so that none of it can wait until after the maximum."""

    def __init__(self, network: LEDNet) -> None:
        super().__init__()
        units = list(network.encoder.layers)
        layers: list[nn.Module] = []
        for unit in units:
            if isinstance(unit, SSnbt):
                layers.append(SplitResidual(unit, shuffle=unit is not units[-1]))
            elif isinstance(unit, DownsamplingUnit):
                layers.append(Down(unit))
        self.encoder = nn.Sequential(*layers)
        self.apn = Pyramid(network.apn)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, num_classes, H, W)."""
        return resize(self.apn(self.encoder(images)), images)


def _unshuffled(layers: nn.Sequential) -> nn.Sequential:
    """The layers for inputs whose two halves have not been interleaved."""
    conv = layers[0]
    assert isinstance(conv, nn.Conv2d)
    order = torch.cat((torch.arange(0, conv.in_channels, 2), torch.arange(1, conv.in_channels, 2)))
    return nn.Sequential(like(conv, conv.weight[:, order], conv.bias), *list(layers)[1:])
