"""Max unpooling as two networks have it."""

from __future__ import annotations

import torch


def max_unpool(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Values back to where a 2x2 pooling found them, and zeros around: `F.max_unpool2d(x, indices, 2)`.

    What that checks beforehand imports SymPy, for a second at a process's first frame.

    Args:
        x: (N, C, H, W).
        indices: of the pooling, int64 (N, C, H, W).

    Returns:
        (N, C, 2H, 2W).
    """
    height, width = x.shape[-2:]
    unpooled: torch.Tensor = torch.ops.aten.max_unpool2d(x, indices, (2 * height, 2 * width))
    return unpooled
