"""Layers of the deploy graph that torch.nn does not have in convertible form."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class PixelShuffle(nn.Module):
    """(N, 4 C, H, W) to (N, C, 2 H, 2 W) as reshape, permute, reshape.

    Channels are ordered phase by phase (top left, top right, bottom left, bottom right), not as torch's: as
    those of ONNX's DepthToSpace by default, and the maps of one phase lie together in memory.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Interleave the phases."""
        n, channels, height, width = x.shape
        phases = x.reshape(n, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
        return phases.reshape(n, channels // 4, height * 2, width * 2)


class PadRightBottom(nn.Module):
    """One row and one column of zeros, for a 2x2 convolution that keeps the size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, H + 1, W + 1)."""
        return F.pad(x, (0, 1, 0, 1))


class PoolAffine(nn.Module):
    """2x2 max pooling, then scale and shift of each channel: a batch norm that no convolution precedes."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1))
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, H / 2, W / 2)."""
        return F.max_pool2d(x, 2, 2) * self.scale + self.shift


class Winners(NamedTuple):
    """Where the maxima of 2x2 windows are; each is 0 or 1, float (N, C, H, W).

    Attributes:
        bottom: in the lower row.
        right_of_top: the upper row's maximum is the right one.
        right_of_bottom: the lower row's maximum is the right one.
    """

    bottom: torch.Tensor
    right_of_top: torch.Tensor
    right_of_bottom: torch.Tensor


def _above(challenger: torch.Tensor, holder: torch.Tensor) -> torch.Tensor:
    """1 where the challenger is larger, else 0.

    Written with arithmetic alone: torch2trt converts neither `where` nor a cast of a comparison's result.
    """
    return torch.ceil(torch.clamp(challenger - holder, 0.0, 1.0))


def max_pool(x: torch.Tensor) -> tuple[torch.Tensor, Winners]:
    """2x2 max pooling as a tournament: (N, C, 2 H, 2 W) to the maxima (N, C, H, W) and where they were.

    The first in reading order wins a tie, as in `nn.MaxPool2d`. Exactly one position wins in any arithmetic;
    a comparison with the pooled value would find none where an engine rounds the two differently.
    """
    top_left, top_right = x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2]
    bottom_left, bottom_right = x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2]
    top, bottom = torch.max(top_left, top_right), torch.max(bottom_left, bottom_right)
    winners = Winners(_above(bottom, top), _above(top_right, top_left), _above(bottom_right, bottom_left))
    return torch.max(top, bottom), winners


class MaxUnpool(nn.Module):
    """`nn.MaxUnpool2d(2)`: every value goes where its window's maximum was, the rest is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.shuffle = PixelShuffle()

    def forward(self, x: torch.Tensor, winners: Winners) -> torch.Tensor:
        """(N, C, H, W) to (N, C, 2 H, 2 W)."""
        bottom = x * winners.bottom
        top = x - bottom
        top_right = top * winners.right_of_top
        bottom_right = bottom * winners.right_of_bottom
        phases = torch.cat((top - top_right, top_right, bottom - bottom_right, bottom_right), 1)
        out: torch.Tensor = self.shuffle(phases)
        return out
