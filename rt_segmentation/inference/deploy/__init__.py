"""The networks rewritten for engines: the same weights in operations that every engine executes well.

Batch norm is folded into convolutions, dropout is gone, max unpooling is a multiplication by first-maximum
masks, a transposed convolution is a convolution and a sub-pixel rearrangement. In float32 the result equals
the network in eval mode, but for the rounding of folded weights. docs/torch2trt.md has the allowed calls.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.inference.deploy.body import Body, PlainBody
from rt_segmentation.inference.deploy.enet import ENetBody, ENetEncoderBody
from rt_segmentation.inference.deploy.lednet import LEDNetBody
from rt_segmentation.inference.deploy.linknet import LinkNetBody
from rt_segmentation.inference.deploy.segnet import SegNetBody
from rt_segmentation.models import size_problem
from rt_segmentation.networks.enet import ENet, ENetEncoderClassifier
from rt_segmentation.networks.lednet import LEDNet
from rt_segmentation.networks.linknet import LinkNet
from rt_segmentation.networks.outputs import multiple_of
from rt_segmentation.networks.segnet import SegNet

_BODIES: dict[type[nn.Module], type[Body]] = {
    LinkNet: LinkNetBody,
    ENet: ENetBody,
    ENetEncoderClassifier: ENetEncoderBody,
    LEDNet: LEDNetBody,
    SegNet: SegNetBody,
}


class DeployedNetwork(nn.Module):
    """A network for frames of one size.

    Attributes:
        body: from padded images to coarse logits (see `Body`).
        height, width: of the frames [px].
    """

    def __init__(self, body: Body, height: int, width: int, multiple: int) -> None:
        super().__init__()
        self.body = body
        self.height, self.width = height, width
        self._bottom, self._right = -height % multiple, -width % multiple

    @property
    def padded_shape(self) -> tuple[int, int, int]:
        """(3, H, W) of what the body takes."""
        return 3, self.height + self._bottom, self.width + self._right

    def pad(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, height, width) with zeros to the right and at the bottom, as the body takes them."""
        if self._bottom or self._right:
            images = F.pad(images, (0, self._right, 0, self._bottom))
        return images

    def coarse(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, height, width) to coarse logits (N, phases x classes, h, w)."""
        out: torch.Tensor = self.body(self.pad(images))
        return out

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """Coarse values, `phases` for each of any number of maps, to full size: (N, maps, height, width).

        It moves values and computes none, so that labels may take it as well as logits.
        """
        full: torch.Tensor = self.body.spread(coarse)
        if self._bottom or self._right:
            full = full[:, :, : self.height, : self.width]
        return full

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, height, width) to logits (N, num_classes, height, width), as the network's."""
        return self.spread(self.coarse(images))


def deploy(network: nn.Module, height: int, width: int) -> DeployedNetwork:
    """Rewrite a network for frames of height x width [px]; the network itself stays as it is.

    A network that has no rewriting here is taken as it is.

    Args:
        network: from images to logits of their size, float32, with its weights.
        height: 32 to 16384.
        width: 32 to 16384.

    Returns:
        A module in eval mode without gradients, on the CPU.

    Raises:
        ValueError: a side is too small, or larger than any memory.
    """
    if problem := size_problem(width, height):
        raise ValueError(problem)
    body = _BODIES.get(type(network), PlainBody)(network)
    return DeployedNetwork(body, height, width, multiple_of(network)).eval().requires_grad_(False)
