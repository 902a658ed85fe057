"""Sequences of layers with batch norm folded and transposed convolutions replaced."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from rt_segmentation.inference.deploy.layers import PadRightBottom, PixelShuffle

PHASES = 4


def affine(bn: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift, float64 (C,), of a batch norm in eval mode."""
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight.detach().double() / torch.sqrt(bn.running_var.double() + bn.eps)
    return scale, bn.bias.detach().double() - bn.running_mean.double() * scale


def scaled(conv: nn.Conv2d, scale: torch.Tensor, shift: torch.Tensor) -> nn.Conv2d:
    """The convolution followed by a scale and a shift for each of its output channels."""
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.detach().double()
    return like(conv, conv.weight.detach().double() * scale.view(-1, 1, 1, 1), bias * scale + shift)


def like(conv: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Conv2d:
    """A convolution with other weights and the same stride, padding and dilation."""
    assert not isinstance(conv.padding, str) and conv.groups == 1
    made = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        (conv.stride[0], conv.stride[1]),
        (conv.padding[0], conv.padding[1]),
        (conv.dilation[0], conv.dilation[1]),
        bias=bias is not None,
    )
    # Kept as leaves of the right layout: views of the network's weights would change with it.
    made.weight.data = weight.detach().float().clone().contiguous()
    if bias is not None and made.bias is not None:
        made.bias.data = bias.detach().float().clone()
    return made


def sub_pixel(transposed: nn.ConvTranspose2d) -> list[nn.Module]:
    """A transposed convolution as a convolution at its input's size.

    Returns:
        For stride 1 a convolution; for stride 2 layers to four phases of the output, ordered phase by phase,
        that `PixelShuffle` interleaves.
    """
    kernel, stride = transposed.kernel_size[0], transposed.stride[0]
    assert not isinstance(transposed.padding, str)
    padding = transposed.padding[0]
    weight = transposed.weight.detach()
    bias = None if transposed.bias is None else transposed.bias.detach()
    if stride == 1:
        conv = nn.Conv2d(1, 1, kernel, padding=kernel - 1 - padding)
        return [like(conv, weight.transpose(0, 1).flip(2, 3), bias)]
    # Output pixel 2 m + phase is the sum of w[k] x[m + (phase + padding - k) / 2] over the k that leave no
    # remainder. Kernel 3 with padding 1 reaches x[m + 1], kernel 2 without padding does not.
    if (kernel, padding, transposed.output_padding[0]) not in ((3, 1, 1), (2, 0, 0)) or stride != 2:
        raise ValueError(f"a transposed convolution like {transposed} cannot be deployed")
    reach = kernel - 1
    channels_in, channels_out = weight.shape[:2]
    phases = torch.zeros(2, 2, channels_out, channels_in, reach, reach)
    taps = [
        (phase, (phase + padding - k) // 2, k)
        for phase in range(2)
        for k in range(kernel)
        if (phase + padding - k) % 2 == 0
    ]
    for row, y, k_y in taps:
        for column, x, k_x in taps:
            phases[row, column, :, :, y, x] = weight[:, :, k_y, k_x].T
    conv = like(nn.Conv2d(1, 1, reach), phases.flatten(0, 2), None if bias is None else bias.repeat(PHASES))
    return [PadRightBottom(), conv] if reach == 2 else [conv]


def fold(*layers: nn.Module, shuffle_last: bool = True) -> nn.Sequential:
    """Layers one after another, as they are in eval mode.

    Activations come before the interleaving of phases, where they are fused into the convolution.

    Args:
        layers: convolutions, batch norms behind them, activations, dropout, pixel shuffles, or sequences.
        shuffle_last: False leaves the phases of the last upsampling as channels.
    """
    out: list[nn.Module] = []
    shuffled = False
    for layer in _flat(layers):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            if shuffled:
                out.append(PixelShuffle())
            upsamples = isinstance(layer, nn.ConvTranspose2d)
            out += sub_pixel(layer) if isinstance(layer, nn.ConvTranspose2d) else [copy.deepcopy(layer)]
            shuffled = upsamples and layer.stride[0] == 2
        elif isinstance(layer, nn.PixelShuffle):
            out[-1] = _phase_by_phase(_convolution(out))
            shuffled = True
        elif isinstance(layer, nn.BatchNorm2d):
            scale, shift = affine(layer)
            repeats = PHASES if shuffled else 1
            out[-1] = scaled(_convolution(out), scale.repeat(repeats), shift.repeat(repeats))
        elif isinstance(layer, nn.PReLU):
            out.append(prelu(layer.weight.detach().repeat(PHASES if shuffled else 1)))
        elif isinstance(layer, nn.ReLU):
            out.append(nn.ReLU())
        elif not isinstance(layer, nn.Dropout2d):
            raise ValueError(f"a layer like {layer} cannot be deployed")
    if shuffled and shuffle_last:
        out.append(PixelShuffle())
    return nn.Sequential(*out)


def prelu(slopes: torch.Tensor) -> nn.PReLU:
    """A PReLU with these slopes, (C,)."""
    layer = nn.PReLU(slopes.numel())
    layer.weight.data = slopes.detach().float().clone()
    return layer


def _flat(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer


def _convolution(layers: list[nn.Module]) -> nn.Conv2d:
    if not layers or not isinstance(layers[-1], nn.Conv2d):
        raise ValueError("a batch norm or a pixel shuffle that follows no convolution cannot be deployed")
    return layers[-1]


def _phase_by_phase(conv: nn.Conv2d) -> nn.Conv2d:
    """Reorder the outputs from torch's order for a pixel shuffle, a channel's phases together, to ours."""
    order = torch.arange(conv.out_channels).view(-1, PHASES).T.flatten()
    return like(conv, conv.weight[order], None if conv.bias is None else conv.bias[order])
