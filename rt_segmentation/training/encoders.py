"""Encoders alone: which part of a network that is, and the files that hold one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from rt_segmentation.files import write_atomically
from rt_segmentation.models import ModelError
from rt_segmentation.training.importers import CheckpointError, import_checkpoint
from rt_segmentation.training.importers.tensors import read_tensors


class EncoderFile(NamedTuple):
    """What a file with an encoder holds.

    Attributes:
        weights: float32 arrays by the network's state-dict names.
        normalisation: mean and std of the images that it was trained on; None where the file does not tell.
    """

    weights: dict[str, np.ndarray]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None


class Encoder(NamedTuple):
    """A network's encoder: its modules in the order in which an image passes them, its output channels."""

    modules: tuple[str, ...]
    channels: int


# Networks whose encoder is a sequence of modules; ENet's also gives pooling indices to the decoder.
ENCODERS: dict[str, Encoder] = {
    "linknet": Encoder(("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"), 512),
    "lednet": Encoder(("encoder.layers",), 128),
}


def encoder_of(name: str, network: nn.Module) -> nn.Sequential:
    """The encoder of a network, as a module that shares its parameters.

    Raises:
        ModelError: the network is none of `ENCODERS`.
    """
    return nn.Sequential(*(network.get_submodule(module) for module in _modules(name)))


def encoder_tensors(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's part of a network's state dict, without batch norm's step counters.

    Raises:
        ModelError: the network is none of `ENCODERS`.
    """
    prefixes = tuple(f"{module}." for module in _modules(name))
    return {
        key: value
        for key, value in state.items()
        if key.startswith(prefixes) and not key.endswith("num_batches_tracked")
    }


def write_encoder(path: Path, name: str, state: Mapping[str, torch.Tensor], about: dict[str, str]) -> None:
    """Write the encoder's part of a network's state dict as safetensors.

    Args:
        path: replaced whole or not at all.
        name: of the network.
        state: its state dict, on the CPU.
        about: goes into the file's metadata.
    """
    from safetensors.numpy import save

    arrays = {key: value.contiguous().numpy() for key, value in encoder_tensors(name, state).items()}
    write_atomically(path, save(arrays, about))


def read_encoder(path: Path, name: str) -> EncoderFile:
    """Read a network's encoder from a file of `write_encoder`, or from a foreign checkpoint with one alone.

    Raises:
        ModelError: the file cannot be read, or holds something else.
    """
    prefixes = tuple(f"{module}." for module in _modules(name))
    try:
        tensors = read_tensors(path)
        if tensors and all(key.startswith(prefixes) for key in tensors):
            return EncoderFile(tensors, None)
        imported = import_checkpoint(path)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    if imported.complete:
        raise ModelError(
            f"{path} is a whole {imported.network} ({imported.source.name}); make it a model with"
            " 'rt_seg models import' and start from that"
        )
    if imported.network != name:
        raise ModelError(f"{path} is for {imported.network} ({imported.source.name}), {name} is wanted")
    return EncoderFile(imported.weights, (imported.source.mean, imported.source.std))


def _modules(name: str) -> tuple[str, ...]:
    if name not in ENCODERS:
        raise ModelError(
            f"network '{name}' has no encoder to train or to load alone; {', '.join(ENCODERS)} have"
        )
    return ENCODERS[name].modules
