"""Networks as other people export them to ONNX: small, seeded, in the shapes of known ones."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 11
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _conv(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    # Kernels that tell classes apart well: labels do not hang on the last bit.
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class LRASPP(nn.Module):
    """As MobileNetV3's head: two scales, a gate by global pooling, logits at 1/8 of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(_conv(3, 8, 2), _conv(8, 12, 2), _conv(12, 12, 2))
        self.high = nn.Sequential(_conv(12, 16, 2), nn.Conv2d(16, 16, 1))
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.low_head, self.high_head = nn.Conv2d(12, CLASSES, 1), nn.Conv2d(16, CLASSES, 1)

    def forward(self, images: torch.Tensor) -> Any:
        low = self.low(images)
        high = self.high(low)
        high = F.interpolate(high * self.scale(high), low.shape[2:], mode="bilinear", align_corners=False)
        return self.low_head(low) + self.high_head(high)


class BiSeNetV2(nn.Module):
    """Two branches, depthwise convolutions, an auxiliary output; logits of the image's size, or ids."""

    def __init__(self, gives: str = "two") -> None:
        super().__init__()
        self.detail = nn.Sequential(_conv(3, 8, 2), _conv(8, 16, 2))
        self.semantic = nn.Sequential(_conv(3, 8, 4), _conv(8, 8, 2, 8), nn.Conv2d(8, 16, 1))
        self.head, self.auxiliary = nn.Conv2d(16, CLASSES, 3, padding=1), nn.Conv2d(16, CLASSES, 1)
        self.gives = gives

    def forward(self, images: torch.Tensor) -> Any:
        detail, semantic = self.detail(images), self.semantic(images)
        gate = torch.sigmoid(F.interpolate(semantic, detail.shape[2:], mode="bilinear", align_corners=False))
        logits = F.interpolate(
            self.head(detail * gate), images.shape[2:], mode="bilinear", align_corners=True
        )
        if self.gives == "labels":
            return logits.argmax(1)
        if self.gives == "probabilities":
            return logits.softmax(1)
        return logits, self.auxiliary(semantic)


class SegFormer(nn.Module):
    """Patches, attention with layer norm, logits at 1/4 of the size; NHWC images go in if asked."""

    def __init__(self, nhwc: bool = False) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 16, 7, 4, 3), nn.LayerNorm(16)
        self.keys, self.qkv = nn.Conv2d(16, 16, 4, 4), nn.Linear(16, 16)
        self.mix, self.head = nn.Linear(16, 16), nn.Conv2d(16, CLASSES, 1)
        self.nhwc = nhwc

    def forward(self, images: torch.Tensor) -> Any:
        x = self.patches(images.permute(0, 3, 1, 2) if self.nhwc else images)
        n, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        others = self.keys(x).flatten(2).transpose(1, 2)
        weights = (self.qkv(tokens) @ others.transpose(1, 2) / c**0.5).softmax(-1)
        tokens = tokens + F.gelu(self.mix(weights @ others))
        logits = self.head(tokens.transpose(1, 2).reshape(n, c, h, w))
        return logits.permute(0, 2, 3, 1) if self.nhwc else logits


def seeded(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, with weights and statistics of a seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.dtype == torch.float32:
            noise = torch.randn(tensor.shape, generator=generator)
            fan_in = max(int(np.prod(tensor.shape[1:])), 1)
            if tensor.ndim > 1:
                tensor.copy_(noise * (2 / fan_in) ** 0.5)
            else:
                tensor.copy_(1 + 0.1 * noise.abs() if "var" in name or "weight" in name else 0.3 * noise)
    return network.eval()


def export(
    network: nn.Module,
    path: Path,
    size: tuple[int, int] = (96, 64),
    free: bool = True,
    nhwc: bool = False,
    names: tuple[str, ...] = ("out",),
    opset: int = 17,
) -> Path:
    """Write a network as ONNX; its size and batch are `free`, or fixed to one image of (width, height)."""
    width, height = size
    example = torch.zeros(1, height, width, 3) if nhwc else torch.zeros(1, 3, height, width)
    axes = {0: "n", 1: "h", 2: "w"} if nhwc else {0: "n", 2: "h", 3: "w"}
    content: Any = io.BytesIO()
    with warnings.catch_warnings():
        # The tracer is on its way out, and sizes become constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            content,
            input_names=["images"],
            output_names=list(names),
            opset_version=opset,
            dynamic_axes={"images": axes} if free else None,
            dynamo=False,
        )
    path.write_bytes(content.getvalue())
    return path


def expected(network: nn.Module, images: np.ndarray, nhwc: bool = False, bgr: bool = False) -> np.ndarray:
    """Labels as its authors' own pipeline in PyTorch makes them: uint8 (N, H, W, 3) RGB to (N, H, W)."""
    pixels = (torch.from_numpy(images).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    pixels = pixels.flip(3) if bgr else pixels
    with torch.inference_mode():
        given = network(pixels if nhwc else pixels.permute(0, 3, 1, 2))
        logits = given[0] if isinstance(given, tuple) else given
        if logits.ndim == 3:
            return np.asarray(logits.byte())
        logits = logits.permute(0, 3, 1, 2) if nhwc else logits
        logits = F.interpolate(logits, images.shape[1:3], mode="bilinear", align_corners=False)
        return np.asarray(logits.argmax(1).byte())
