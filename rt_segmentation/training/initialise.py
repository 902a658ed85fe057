"""Weights to start a training from: of a model, or of an encoder that was trained alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rt_segmentation.files import user_path
from rt_segmentation.inference.network import load_network
from rt_segmentation.labels import IGNORE_ID, LabelSet, ids_by_name, load_label_set
from rt_segmentation.models import ModelError, ModelManifest, find_model, read_manifest
from rt_segmentation.networks import build_network
from rt_segmentation.training.encoders import encoder_tensors, read_encoder
from rt_segmentation.training.recipe import Recipe
from rt_segmentation.weights import compare_shapes

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
    path = user_path(name_or_path)
    # A model's name may have a dot as well.
    may_be_file = path.suffix not in ("", ".yaml", ".yml")
    if may_be_file and path.is_file():
        return path
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
    if encoder.is_file():
        return encoder
    try:
        return find_model(name_or_path)
    except ModelError:
        if may_be_file:
            raise ModelError(
                f"there is no file {path} to start the training from, and no model of that name"
            ) from None
        raise


def initialise(network: nn.Module, recipe: Recipe, start: ModelManifest | Path) -> str:
    """Give the network weights to start with.

    A model of the recipe's network and options gives all its weights. If its classes are others, layers that
    depend on them get the weights of those of the same name (`ids_by_name`), and keep their random start for
    all others. An ENet encoder (the first stage of the paper) gives its encoder, and so does a
    file with an encoder alone. All other weights stay as they are. A model must normalise images as the
    recipe does. Of an encoder's file that does not the sentence says so; its norms learn along.

    Args:
        network: the recipe's, as `build_network` made it.
        recipe: says which network, options and classes are wanted.
        start: see `find_start`.

    Returns:
        A sentence that says what was loaded and what was not.

    Raises:
        ModelError: the weights are of another network, of a model for images of another mean or std, or
            missing, damaged or not the manifest's.
    """
    if isinstance(start, Path):
        file = read_encoder(start, recipe.network)
        tensors = {key: torch.from_numpy(array) for key, array in file.weights.items()}
        wanted = encoder_tensors(recipe.network, network.state_dict())
        what = f"the encoder in {start.name}"
        other = _other_normalisation(recipe, *file.normalisation) if file.normalisation else ""
        if other and recipe.frozen_norms:
            raise ModelError(f"{what} {other}; give the recipe the encoder's, or leave frozen_norms out")
        said = _load(network, tensors, wanted, what)
        return f"{said}; it {other}, and has to get used to them" if other else said
    what = f"model '{start.name}'"
    is_stage = start.network == ENCODER_STAGES.get(recipe.network)
    if not is_stage and (start.network, start.options) != (recipe.network, recipe.options):
        raise ModelError(
            f"{what} is {start.network} {start.options}, recipe '{recipe.name}' wants {recipe.network}"
            f" {recipe.options}"
        )
    if other := _other_normalisation(recipe, start.mean, start.std):
        raise ModelError(f"{what} {other}; give the recipe the model's, or another start")
    if is_stage:
        tensors = {k: v for k, v in _state(load_network(start)).items() if k.startswith("encoder.")}
        return _load(network, tensors, tensors, f"the encoder of {what}")
    tensors = _state(load_network(start))
    names = start.labels().names
    if names == load_label_set(recipe.label_set).names:
        return _load(network, tensors, tensors, what)
    axes = class_axes(recipe.network, len(names), recipe.options)
    common = {key: value for key, value in tensors.items() if key not in axes}
    what = f"{what}, whose classes are others ({start.label_set})"
    ours = load_label_set(recipe.label_set)
    said = _load(network, common, common, what)
    copied = _copy_classes(network, tensors, axes, ids_by_name(start.labels(), ours), ours)
    return f"{said}{copied}"


def _other_normalisation(recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> str:
    """What of a start's normalisation is not the recipe's, to follow its name; '' where both are one.

    Weights are for images normalised as those that they learnt from: with other ones a short training starts
    from noise, and one with frozen norms stays there.
    """
    if np.allclose((mean, std), (recipe.mean, recipe.std), rtol=0, atol=1e-3):
        return ""
    return (
        f"was trained on images with mean {list(mean)} and std {list(std)}, recipe '{recipe.name}' has mean"
        f" {list(recipe.mean)} and std {list(recipe.std)}"
    )


def class_axes(network: str, num_classes: int, options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a network whose shapes change with the number of classes.

    Returns:
        Each one's axes that have an index for each class; none where it is not one index a class, as with
        sub-pixel upsampling.
    """
    with torch.device("meta"):
        own = build_network(network, num_classes, **options).state_dict()
        more = build_network(network, num_classes + 1, **options).state_dict()
    return {
        key: tuple(
            axis
            for axis, (size, larger) in enumerate(zip(value.shape, more[key].shape))
            if size == num_classes and larger == size + 1
        )
        for key, value in own.items()
        if value.shape != more[key].shape
    }


def _copy_classes(
    network: nn.Module,
    tensors: Tensors,
    axes: dict[str, tuple[int, ...]],
    table: np.ndarray,
    wanted: LabelSet,
) -> str:
    """Give the classes the weights of those of the same name, in layers that have some for each class.

    Args:
        network: with its own classes.
        tensors: of the model that the weights come from.
        axes: of the tensors, from `class_axes`.
        table: for each class of that model its id in the network, 255 for none.
        wanted: the network's classes.

    Returns:
        The end of the sentence, which says which classes these are; '' where there are none.
    """
    source = [i for i, target in enumerate(table.tolist()) if target != IGNORE_ID]
    target = [int(table[i]) for i in source]
    state = _state(network)
    by_class = {key: places for key, places in axes.items() if places and key in tensors}
    if not source or not by_class:
        return ""
    with torch.no_grad():
        for key, places in by_class.items():
            values, own = tensors[key], state[key]
            for axis in places:
                values = values.index_select(axis, torch.tensor(source))
            index = [torch.arange(size) for size in own.shape]
            for axis in places:
                index[axis] = torch.tensor(target)
            own[torch.meshgrid(*index, indexing="ij")] = values.to(own.dtype)
    kept = [wanted.names[i] for i in sorted(target)]
    new = [name for i, name in enumerate(wanted.names) if i not in target]
    return f", but for those of {', '.join(kept)}, which have their names there" + (
        f"; {', '.join(new)} {'are' if len(new) > 1 else 'is'} new" if new else ""
    )


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
