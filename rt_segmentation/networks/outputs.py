"""What a network gives: logits, or a dictionary of them as torchvision's networks do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.networks import NetworkError
from rt_segmentation.networks.padding import crop_like, pad_to_multiple

MAIN = "out"

Outputs = torch.Tensor | Mapping[str, torch.Tensor]


def main_logits(outputs: Outputs, images: torch.Tensor) -> torch.Tensor:
    """The logits that count: `outputs`, or what a dictionary has as ``out``.

    Args:
        outputs: of the network, for `images`.
        images: (N, 3, H, W).

    Returns:
        (N, classes, H, W).

    Raises:
        NetworkError: they are missing, or have another size than the images.
    """
    if isinstance(outputs, Mapping):
        if MAIN not in outputs:
            raise NetworkError(f"the network gives {', '.join(outputs)}; the logits must be under '{MAIN}'")
        outputs = outputs[MAIN]
    if not isinstance(outputs, torch.Tensor):
        raise NetworkError(
            f"the network gives a {type(outputs).__name__}; it must give logits (N, classes, H, W), or a"
            f" dictionary with them under '{MAIN}'"
        )
    if outputs.ndim != 4 or outputs.shape[2:] != images.shape[2:]:
        raise NetworkError(
            f"the network gives {tuple(outputs.shape)} for images {tuple(images.shape)}; it must give logits"
            " (N, classes, H, W) of the images' size"
        )
    return outputs


def auxiliary_logits(outputs: Outputs) -> list[torch.Tensor]:
    """All others of a dictionary, (N, classes, h, w) of any size: they help in training alone."""
    if not isinstance(outputs, Mapping):
        return []
    return [logits for name, logits in outputs.items() if name != MAIN]


def multiple_of(network: nn.Module) -> int:
    """What the sides of a network's images must be multiples of [px]."""
    return int(getattr(network, "multiple", 1))


def logits_for(
    network: Callable[[torch.Tensor], Outputs], images: torch.Tensor, multiple: int
) -> torch.Tensor:
    """Logits for images of any size, which are padded to the network's multiple and cropped again.

    Args:
        network: or its forward.
        images: normalised, (N, 3, H, W).
        multiple: the network's, see `multiple_of`.

    Returns:
        (N, classes, H, W).

    Raises:
        NetworkError: see `main_logits`.
    """
    padded = pad_to_multiple(images, multiple)
    return crop_like(main_logits(network(padded), padded), images)


def outputs_for(network: Callable[[torch.Tensor], Outputs], images: torch.Tensor, multiple: int) -> Outputs:
    """As `logits_for`, with all that a dictionary has; what was padded is of the images' size."""
    padded = pad_to_multiple(images, multiple)
    outputs = network(padded)
    if padded is images:
        return outputs
    logits = crop_like(main_logits(outputs, padded), images)
    if not isinstance(outputs, Mapping):
        return logits
    # Auxiliary logits may be smaller: only at the padded size is known where the padding ends.
    others = {
        name: crop_like(F.interpolate(given, padded.shape[2:], mode="bilinear"), images)
        for name, given in outputs.items()
        if name != MAIN
    }
    return {MAIN: logits, **others}
