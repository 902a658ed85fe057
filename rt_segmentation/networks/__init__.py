"""The networks by name; a name is known without importing torch."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

NETWORKS: dict[str, str] = {
    "linknet": "rt_segmentation.networks.linknet:LinkNet",
    "enet": "rt_segmentation.networks.enet:ENet",
    "enet_encoder": "rt_segmentation.networks.enet:ENetEncoderClassifier",
    "lednet": "rt_segmentation.networks.lednet:LEDNet",
    "segnet": "rt_segmentation.networks.segnet:SegNet",
}


class NetworkError(ValueError):
    """An unknown network or option; the message says which ones there are."""


def build_network(name: str, num_classes: int, **options: Any) -> nn.Module:
    """Build an untrained network.

    Args:
        name: one of `NETWORKS`.
        num_classes: channels of the logits.
        options: keyword arguments of the network's class, e.g. ``upsampling="sub_pixel"`` for LinkNet.

    Returns:
        A module from float images (N, 3, H, W), any H and W from 32 up, to logits (N, num_classes, H, W).

    Raises:
        NetworkError: the name or an option is unknown, or an option has a value that the network refuses.
    """
    if name not in NETWORKS:
        raise NetworkError(f"unknown network '{name}'; there are {', '.join(sorted(NETWORKS))}")
    module_name, class_name = NETWORKS[name].split(":")
    network = getattr(importlib.import_module(module_name), class_name)
    known = [p for p in inspect.signature(network).parameters if p != "num_classes"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise NetworkError(
            f"network '{name}' has no option '{unknown[0]}'; it has {', '.join(known) if known else 'none'}"
        )
    if num_classes < 1:
        raise NetworkError(f"network '{name}' needs at least 1 class, not {num_classes}")
    try:
        module: nn.Module = network(num_classes, **options)
    except ValueError as error:
        raise NetworkError(f"network '{name}': {error}") from error
    return module
