"""Models with the weights of a network as it is, without a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rt_segmentation.models import ModelManifest
from rt_segmentation.weights import load_weights, save_model

if TYPE_CHECKING:
    from torch import nn


def save_untrained(
    path: Path,
    network: nn.Module,
    kind: str,
    size: tuple[int, int],
    label_set: str = "camvid11",
    options: dict[str, Any] | None = None,
) -> ModelManifest:
    """Write a network's weights as they are, and their manifest.

    Args:
        path: of the manifest; the model's name is the file's.
        network: with the weights.
        kind: the network's name, or its place.
        size: (width, height) of the frame [px].
        label_set: of the network's classes.
        options: that the network was built with.
    """
    state = {
        key: value.numpy()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    manifest = ModelManifest(
        path=path,
        name=path.stem,
        network=kind,
        label_set=label_set,
        width=size[0],
        height=size[1],
        weights=f"{path.stem}.safetensors",
        sha256="",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gmacs=0.14,
        license="none: random weights",
        options=options or {},
    )
    return save_model(manifest, state)


def shuffled(model: ModelManifest, path: Path, by: int = 3) -> ModelManifest:
    """Write another model of the same network: the one's classes in another order.

    Args:
        model: an ENet.
        path: of the other manifest.
        by: how many places each class moves.
    """
    weights = load_weights(model)
    # A transposed convolution has its outputs second.
    for name, axis in (("classifier.weight", 1), ("classifier.bias", 0)):
        weights[name] = np.roll(weights[name], by, axis)
    return save_model(replace(model, path=path, name=path.stem, weights=f"{path.stem}.safetensors"), weights)
