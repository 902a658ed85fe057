"""LEDNet's deploy graph.

Its units split the channels, and shuffle them at their end. Here the halves are maps of their own from one
downsampling to the next, and a shuffle is no more than what it moves from half to half: in which order the
channels lie within a half, the convolutions' weights take in. The order is known when the graph is built.
"""

from __future__ import annotations

from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.deploy.folding import affine, fold, like, scaled
from rt_segmentation.inference.deploy.layers import PoolAffine
from rt_segmentation.networks.lednet import AttentionPyramid, DownsamplingUnit, LEDNet, SSnbt, resize

Halves = tuple[torch.Tensor, torch.Tensor]
"""A map (N, C, H, W) as two of half the channels each."""

MAX_SLICES = 2
"""A shuffle that takes more slices of each half than this is made by one rearrangement of all channels."""


class Down(nn.Module):
    """A downsampling unit: batch norm on each side of the concatenation.

    Args:
        unit: the network's.
        order: which channel of the network lies in each place of the map that comes.

    Attributes:
        order: likewise, of the map that goes.
    """

    def __init__(self, unit: DownsamplingUnit, order: torch.Tensor) -> None:
        super().__init__()
        filters = unit.conv.out_channels
        scale, shift = affine(unit.bn)
        conv = scaled(unit.conv, scale[:filters], shift[:filters])
        assert conv.bias is not None
        # Where both make a half, both in the same order: shuffles then cut both at the same places.
        self.equal = filters == len(order)
        first = order if self.equal else torch.arange(filters)
        self.conv = like(conv, conv.weight[first][:, order], conv.bias[first])
        self.pool = PoolAffine(scale[filters + order], shift[filters + order])
        self.order = torch.cat((first, filters + order))

    def forward(self, x: torch.Tensor) -> Halves:
        """(N, channels_in, H, W) to halves of (N, channels_out, H/2, W/2)."""
        conv, pool = self.conv(x), self.pool(x)
        return (F.relu(conv), F.relu(pool)) if self.equal else _halves(F.relu(torch.cat((conv, pool), 1)))


class Residual(nn.Module):
    """An SS-nbt unit without its shuffle.

    Args:
        unit: the network's.
        order: which channel of the network lies in each place of the two halves.
    """

    def __init__(self, unit: SSnbt, order: torch.Tensor) -> None:
        super().__init__()
        left, right = order.chunk(2)
        self.left, self.right = _ordered(fold(unit.left), left), _ordered(fold(unit.right), right - len(left))

    def forward(self, halves: Halves) -> Halves:
        """Halves of (N, C, H, W) to halves of the same shape."""
        left, right = halves
        return F.relu(self.left(left) + left), F.relu(self.right(right) + right)


class Exchange(nn.Module):
    """A shuffle that takes slices of each half for the left one, and for the right one what is between them.

    Args:
        left, right: first and last place + 1 of each slice, in either half.
    """

    def __init__(self, left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
        super().__init__()
        self.slices = left, right

    def forward(self, halves: Halves) -> Halves:
        """Halves of (N, C, H, W) to halves of the same shape."""
        left, right = (
            torch.cat([half[:, begin:end] for half in halves for begin, end in slices], 1)
            for slices in self.slices
        )
        return left, right


class Interleave(nn.Module):
    """A shuffle of more groups than the network's: it brings more channels into their half together."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, halves: Halves) -> Halves:
        """Halves of (N, C, H, W) to halves of the same shape."""
        x = torch.cat(halves, 1)
        n, channels, height, width = x.shape
        x = x.reshape(n, self.groups, channels // self.groups, height, width).permute(0, 2, 1, 3, 4)
        return _halves(x.reshape(n, channels, height, width))


class Join(nn.Module):
    """The halves one after another."""

    def forward(self, halves: Halves) -> torch.Tensor:
        """Halves of (N, C, H, W) to (N, C, H, W)."""
        return torch.cat(halves, 1)


def shuffled(order: torch.Tensor) -> torch.Tensor:
    """The numbers that channels have after `nn.ChannelShuffle(2)`, for those that they had before."""
    side = len(order) // 2
    return 2 * (order % side) + order // side


def build_shuffle(order: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """What brings every channel into the half where the network's shuffle would have it.

    Args:
        order: which channel of the network lies in each place of the halves, before the shuffle.

    Returns:
        It, and the order after it.
    """
    side = len(order) // 2
    order = shuffled(order)
    goes_left, also = (order < side).chunk(2)
    left, right = _slices(goes_left), _slices(~goes_left)
    if torch.equal(goes_left, also) and len(left) <= MAX_SLICES:
        places = torch.arange(2 * side).chunk(2)
        taken = [half[begin:end] for slices in (left, right) for half in places for begin, end in slices]
        return Exchange(left, right), order[torch.cat(taken)]
    for groups in (2**n for n in range(1, side)):
        moved = order.reshape(groups, -1).T.flatten()
        if (moved[:side] < side).all():
            return Interleave(groups), moved
    raise ValueError(f"a shuffle of {2 * side} channels cannot be deployed: it must be a power of 2")


class Pyramid(nn.Module):
    """The attention pyramid.

    Args:
        apn: the network's.
        order: which channel of the network lies in each place of the map that comes.
    """

    def __init__(self, apn: AttentionPyramid, order: torch.Tensor) -> None:
        super().__init__()
        self.global_branch = _reading(fold(*list(apn.global_branch.children())[1:]), order)
        self.middle = _reading(fold(apn.middle), order)
        self.down1 = _reading(fold(apn.down1), order)
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
        order = torch.arange(3)
        for unit, following in zip_longest(units, units[1:]):
            if isinstance(unit, DownsamplingUnit):
                down = Down(unit, order)
                layers.append(down)
                order = down.order
            elif isinstance(unit, SSnbt):
                layers.append(Residual(unit, order))
                if isinstance(following, SSnbt):
                    shuffle, order = build_shuffle(order)
                    layers.append(shuffle)
                else:
                    layers.append(Join())
                    order = shuffled(order)
        self.encoder = nn.Sequential(*layers)
        self.apn = Pyramid(network.apn, order)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, num_classes, H, W)."""
        return resize(self.apn(self.encoder(images)), images)


def _halves(x: torch.Tensor) -> Halves:
    side = x.shape[1] // 2
    return x[:, :side], x[:, side:]


def _slices(mask: torch.Tensor) -> list[tuple[int, int]]:
    """Where a mask (C,) is true: first place and last place + 1 of each run."""
    edges = torch.zeros(1, dtype=torch.int)
    changes = torch.diff(mask.int(), prepend=edges, append=edges).nonzero().flatten().tolist()
    return list(zip(changes[::2], changes[1::2]))


def _reading(layers: nn.Sequential, order: torch.Tensor) -> nn.Sequential:
    """The layers, for a map whose channels lie in another order."""
    conv = layers[0]
    assert isinstance(conv, nn.Conv2d)
    return nn.Sequential(like(conv, conv.weight[:, order], conv.bias), *list(layers)[1:])


def _ordered(layers: nn.Sequential, order: torch.Tensor) -> nn.Sequential:
    """The layers, for a map whose channels lie in another order; and so does what they make of it."""
    layers = _reading(layers, order)
    conv = layers[-1]
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    layers[-1] = like(conv, conv.weight[order], conv.bias[order])
    return layers
