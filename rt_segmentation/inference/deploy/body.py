"""What the deploy graphs of all networks have in common."""

from __future__ import annotations

import torch
from torch import nn


class Body(nn.Module):
    """From padded images to coarse logits, as far as the classes of a pixel depend on one coarse pixel alone.

    The maximum over the classes may be taken before `spread`, where there is less to move.

    Attributes:
        phases: class maps for each coarse pixel: coarse channels are ordered phase by phase.
    """

    phases = 1

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """Coarse values (N, phases x maps, h, w) to full size (N, maps, H, W), padding included."""
        return coarse
