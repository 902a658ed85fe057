"""What engines execute: from the frames' bytes to labels and confidence, all in one graph."""

from __future__ import annotations

import torch
from torch import nn

from rt_segmentation.inference.deploy import DeployedNetwork


class EngineGraph(nn.Module):
    """Normalisation, layout, deployed network, argmax and confidence.

    The maximum over the classes is taken before the last rearrangement of pixels: one byte moves for each
    pixel, not one float for each class.

    Args:
        network: the deployed one.
        mean, std: normalisation of images in [0, 1], by channel (R, G, B).
        temperature: what logits are divided by for the confidence; it changes no label.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        network: DeployedNetwork,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.sharpness = 1 / temperature
        self.network = network
        centre, spread = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (mean, std))
        self.register_buffer("scale", 1 / (255 * spread))
        self.register_buffer("shift", -centre / spread)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Segment a batch.

        Args:
            images: uint8 (N, H, W, 3) RGB, of the deployed size.

        Returns:
            Class ids uint8 (N, H, W) and the top class's probability x 255, uint8 (N, H, W).
        """
        logits = self.by_phase(self.network.coarse(self.normalise(images)))
        top, labels = logits.max(1)
        return self.image(labels), self.image(self.confidence(logits, top))

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, H, W, 3) to float32 (N, 3, H, W)."""
        return images.permute(0, 3, 1, 2).float() * self.scale + self.shift

    def by_phase(self, coarse: torch.Tensor) -> torch.Tensor:
        """Coarse logits (N, phases x classes, h, w) to (N x phases, classes, h, w)."""
        n, channels, height, width = coarse.shape
        phases = self.network.body.phases
        return coarse.reshape(n * phases, channels // phases, height, width)

    def confidence(self, logits: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
        """Logits (M, classes, h, w) and their maximum (M, h, w) to the top class's probability x 255."""
        # The top class's softmax: exp(top - top) / sum(exp(logits - top)).
        below_top = logits - top.unsqueeze(1)
        if self.sharpness != 1:
            below_top = below_top * self.sharpness
        probability = 1 / torch.exp(below_top).sum(1)
        return torch.round(probability * 255)

    def image(self, values: torch.Tensor) -> torch.Tensor:
        """Values in 0 to 255, (N x phases, h, w), to uint8 (N, height, width)."""
        _, height, width = values.shape
        coarse = values.to(torch.uint8).reshape(-1, self.network.body.phases, height, width)
        return self.network.spread(coarse).reshape(-1, self.network.height, self.network.width)
