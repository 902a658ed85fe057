"""Weights to start a training from: of a model, or of an encoder that was trained alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from rt_segmentation.inference.network import load_network
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelError, ModelManifest, compare_shapes, find_model, read_manifest
from rt_segmentation.networks import build_network
from rt_segmentation.training.encoders import encoder_tensors, read_encoder
from rt_segmentation.training.recipe import Recipe

Tensors = dict[str, torch.Tensor]

ENCODER_STAGES = {"enet": "enet_encoder"}
"""Networks of which another one of ours trains the encoder, under the same names below `encoder.`."""


def find_start(name_or_path: str | Path, trained: Path) -> ModelManifest | Path:
    """What `--init-from` and a recipe's `init_from` name: a model, or the file of an encoder.

    Args:
        name_or_path: a name, of what was trained into the folder `trained` or of a model that comes with the
            package; or a path, of a manifest (.yaml) or of an encoder's file: one that
            `classification.train_classifier` wrote, or a checkpoint of torchvision's ResNet-18.
        trained: the folder that a training of that name writes its result into.

    Raises:
        ModelError: there is none, or the training of that name has not ended.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix not in ("", ".yaml", ".yml"):
        if path.is_file():
            return path
        raise ModelError(f"there is no file {path} to start the training from")
    beside = trained / f"{name_or_path}.yaml"
    if beside.is_file():
        manifest = read_manifest(beside)
        if not manifest.scores:
            raise ModelError(
                f"the training of '{name_or_path}' in {trained} has not ended; let it end, or start from what"
                f" it has so far with --init-from {beside}"
            )
        return manifest
    encoder = beside.with_suffix(".safetensors")
    return encoder if encoder.is_file() else find_model(name_or_path)


def initialise(network: nn.Module, recipe: Recipe, start: ModelManifest | Path) -> str:
    """Give the network weights to start with.

    A model of the recipe's network and options gives all its weights, but for the layers that depend on the
    classes if it has others. An ENet encoder (the first stage of the paper) gives its encoder, and so does a
    file with an encoder alone. All other weights stay as they are.

    Args:
        network: the recipe's, as `build_network` made it.
        recipe: says which network, options and classes are wanted.
        start: see `find_start`.

    Returns:
        A sentence that says what was loaded and what was not.

    Raises:
        ModelError: the weights are of another network, or missing, damaged or not the manifest's.
    """
    if isinstance(start, Path):
        arrays = read_encoder(start, recipe.network)
        tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
        wanted = encoder_tensors(recipe.network, network.state_dict())
        return _load(network, tensors, wanted, f"the encoder in {start.name}")
    what = f"model '{start.name}'"
    if start.network == ENCODER_STAGES.get(recipe.network):
        tensors = {k: v for k, v in _state(load_network(start)).items() if k.startswith("encoder.")}
        return _load(network, tensors, tensors, f"the encoder of {what}")
    if (start.network, start.options) != (recipe.network, recipe.options):
        raise ModelError(
            f"{what} is {start.network} {start.options}, recipe '{recipe.name}' wants {recipe.network}"
            f" {recipe.options}"
        )
    tensors = _state(load_network(start))
    names = start.labels().names
    if names == load_label_set(recipe.label_set).names:
        return _load(network, tensors, tensors, what)
    # Layers whose shapes change with the number of classes have a meaning for each class.
    with torch.device("meta"):
        more = build_network(recipe.network, len(names) + 1, **recipe.options).state_dict()
    tensors = {key: value for key, value in tensors.items() if value.shape == more[key].shape}
    return _load(network, tensors, tensors, f"{what}, whose classes are others ({start.label_set})")


def _load(network: nn.Module, tensors: Tensors, wanted: Collection[str], what: str) -> str:
    """Load tensors, which must be those of the names `wanted`, and say so."""
    state = _state(network)
    problem = compare_shapes(
        {key: tuple(state[key].shape) for key in wanted},
        {key: tuple(value.shape) for key, value in tensors.items()},
        f"tensors of {what}",
    )
    if problem:
        raise ModelError(problem)
    network.load_state_dict(tensors, strict=False)
    left = [key for key in state if key not in tensors]
    if not left:
        return f"starts from {what}: all {len(state)} tensors"
    parts = ", ".join(dict.fromkeys(key.split(".")[0] for key in left))
    return (
        f"starts from {what}: {len(tensors)} of {len(state)} tensors; the other {len(left)} (in {parts}) keep"
        " their random start"
    )


def _state(network: nn.Module) -> Tensors:
    """The state dict without batch norm's step counters, which are not among a model's weights."""
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
