"""Parameters and operations of a network."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rt_segmentation.networks.outputs import logits_for, multiple_of


def count_parameters(network: nn.Module) -> int:
    """Trainable values; batch norm's running statistics are not among them."""
    return sum(p.numel() for p in network.parameters())


def count_gmacs(network: nn.Module, width: int, height: int) -> float:
    """1e9 multiply-accumulates of the convolutions for one frame of width x height [px], in eval mode.

    Activations, normalisation, pooling and interpolation are not counted; padding inside the network is.
    """
    counter = FlopCounterMode(display=False)
    # On the meta device tensors have shapes but no values: counting computes nothing.
    shapes_only = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), counter:
        images = torch.empty(1, 3, height, width, device="meta")
        logits_for(shapes_only, images, multiple_of(shapes_only))
    return float(counter.get_total_flops()) / 2e9
