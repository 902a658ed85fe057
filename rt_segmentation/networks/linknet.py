"""LinkNet (Chaurasia and Culurciello, 2017, arXiv:1707.03718)."""

from __future__ import annotations

import torch
from torch import nn

from rt_segmentation.networks.padding import crop_like, pad_to_multiple

# Table I: (m, n) of encoder-block(i) and of decoder-block(i).
ENCODER_CHANNELS = ((64, 64), (64, 128), (128, 256), (256, 512))
DECODER_CHANNELS = ((64, 64), (128, 64), (256, 128), (512, 256))
STRIDES = (1, 2, 2, 2)


class BasicBlock(nn.Module):
    """ResNet's residual block (Fig. 2), with torchvision's names."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        out: torch.Tensor = self.relu(x + shortcut)
        return out


def upsampler(channels_in: int, channels_out: int, kernel: int, upsampling: str, bias: bool) -> nn.Module:
    """Full convolution *2 (Fig. 3), or its sub-pixel form (Shi et al., 2016, as the term project uses it)."""
    if upsampling == "transposed":
        # kernel 3: padding 1 and output_padding 1; kernel 2: none. Both double the size.
        margin = kernel - 2
        return nn.ConvTranspose2d(channels_in, channels_out, kernel, 2, margin, margin, bias=bias)
    return nn.Sequential(nn.Conv2d(channels_in, channels_out * 4, 3, 1, 1, bias=bias), nn.PixelShuffle(2))


class DecoderBlock(nn.Module):
    """decoder-block(i) of Fig. 3: 1x1 to a quarter of the channels, full-conv 3x3, 1x1."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, upsampling: str) -> None:
        super().__init__()
        inner = channels_in // 4
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels_in, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)
        )
        if stride == 2:
            full_conv = upsampler(inner, inner, 3, upsampling, bias=False)
        elif upsampling == "transposed":
            full_conv = nn.ConvTranspose2d(inner, inner, 3, 1, 1, bias=False)
        else:
            full_conv = nn.Conv2d(inner, inner, 3, 1, 1, bias=False)
        self.full_conv = nn.Sequential(full_conv, nn.BatchNorm2d(inner), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(
            nn.Conv2d(inner, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H * stride, W * stride)."""
        out: torch.Tensor = self.conv2(self.full_conv(self.conv1(x)))
        return out


class LinkNet(nn.Module):
    """LinkNet with a ResNet-18 encoder: Fig. 1 to 3 and Table I of the paper.

    The encoder's names are torchvision's, so ``load_state_dict(resnet18_weights, strict=False)`` initialises
    it. Batch norm has PyTorch's eps of 1e-5 throughout, as the authors' PyTorch port (the Lua original has
    1e-3 in the decoder).

    Args:
        num_classes: channels of the logits.
        bypass: add each encoder block's input to its decoder block's output; False is the paper's 'LinkNet
            without bypass' (Tables IV and V).
        upsampling: 'transposed', the paper's full convolution, or 'sub_pixel', the term project's convolution
            to four times the channels followed by a pixel shuffle.

    Raises:
        ValueError: `upsampling` is neither.
    """

    multiple = 32

    def __init__(self, num_classes: int, bypass: bool = True, upsampling: str = "transposed") -> None:
        super().__init__()
        if upsampling not in ("transposed", "sub_pixel"):
            raise ValueError(f"upsampling is '{upsampling}', it must be 'transposed' or 'sub_pixel'")
        self.bypass = bypass
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        encoder = [
            nn.Sequential(BasicBlock(m, n, stride), BasicBlock(n, n, 1))
            for (m, n), stride in zip(ENCODER_CHANNELS, STRIDES)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = encoder
        decoder = [DecoderBlock(m, n, s, upsampling) for (m, n), s in zip(DECODER_CHANNELS, STRIDES)]
        self.decoder1, self.decoder2, self.decoder3, self.decoder4 = decoder
        self.head = nn.Sequential(
            upsampler(64, 32, 3, upsampling, bias=True),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, 1, 1),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
        )
        self.classifier = upsampler(32, num_classes, 2, upsampling, bias=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, H, W) to logits (N, num_classes, H, W); H and W from 32 up."""
        x0 = self.maxpool(self.relu(self.bn1(self.conv1(pad_to_multiple(images, self.multiple)))))
        x1 = self.layer1(x0)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        x4 = self.layer4(x3)
        if self.bypass:
            x = self.decoder4(x4) + x3
            x = self.decoder3(x) + x2
            x = self.decoder2(x) + x1
            x = self.decoder1(x) + x0
        else:
            x = self.decoder1(self.decoder2(self.decoder3(self.decoder4(x4))))
        return crop_like(self.classifier(self.head(x)), images)
