"""Any input size for networks that halve their input several times."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pad_to_multiple(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad (N, C, H, W) with zeros at the right and the bottom until both sides divide by `multiple`."""
    height, width = images.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    if right == 0 and bottom == 0:
        return images
    return F.pad(images, (0, right, 0, bottom))


def crop_like(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Take the padding of `pad_to_multiple` off again."""
    return logits[..., : images.shape[-2], : images.shape[-1]]
