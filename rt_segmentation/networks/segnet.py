"""SegNet (Badrinarayanan, Kendall and Cipolla, 2015, arXiv:1511.00561): the papers' baseline."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from rt_segmentation.networks.padding import crop_like, pad_to_multiple
from rt_segmentation.networks.unpooling import max_unpool

# VGG-16's convolutions, stage by stage, as output channels; each stage ends in a pooling.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def conv_stage(channels: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions with batch norm and ReLU through the given channels."""
    layers: list[nn.Module] = []
    for channels_in, channels_out in pairwise(channels):
        layers += [
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class SegNet(nn.Module):
    """SegNet: VGG-16's thirteen convolutions, their mirror, and pooling indices between them (29.46 M)."""

    multiple = 32

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        inputs = (3, *(stage[-1] for stage in STAGES[:-1]))
        self.encoder = nn.ModuleList(conv_stage((first, *stage)) for first, stage in zip(inputs, STAGES))
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.decoder = nn.ModuleList(
            conv_stage((*stage[::-1], first)) for first, stage in zip(inputs[:0:-1], STAGES[:0:-1])
        )
        self.last = conv_stage((64, 64))
        self.classifier = nn.Conv2d(64, num_classes, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) to logits (N, num_classes, H, W); H and W from 32 up."""
        x = pad_to_multiple(images, self.multiple)
        all_indices = []
        for stage in self.encoder:
            x, indices = self.pool(stage(x))
            all_indices.append(indices)
        for stage, indices in zip((*self.decoder, self.last), reversed(all_indices)):
            x = stage(max_unpool(x, indices))
        return crop_like(self.classifier(x), images)
