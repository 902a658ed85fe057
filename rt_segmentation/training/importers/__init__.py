"""Foreign checkpoints, as models of this package.

`import_checkpoint` finds out whose checkpoint a file is from the names of its tensors and renames them;
`write_model` stores the result as a manifest with its weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.labels import load_label_set, store_label_set
from rt_segmentation.models import ModelManifest, name_problem
from rt_segmentation.networks import build_network
from rt_segmentation.text import printable
from rt_segmentation.training.importers.enet import ENET_AUTHORS
from rt_segmentation.training.importers.errors import CheckpointError
from rt_segmentation.training.importers.lednet import LEDNET_AUTHORS
from rt_segmentation.training.importers.linknet import LINKNET_AUTHORS, RESNET18
from rt_segmentation.training.importers.source import Source, Tensors
from rt_segmentation.training.importers.tensors import read_tensors
from rt_segmentation.weights import compare_shapes, save_model

__all__ = ["SOURCES", "CheckpointError", "ImportedModel", "detect", "import_checkpoint", "write_model"]

SOURCES: tuple[Source, ...] = (ENET_AUTHORS, LINKNET_AUTHORS, LEDNET_AUTHORS, RESNET18)

INDEPENDENT_ENET = ("initial_block.main_branch.weight", "downsample1_0.ext_conv1.0.weight")


@dataclass(frozen=True)
class ImportedModel:
    """A foreign checkpoint in this package's terms.

    Attributes:
        path: the checkpoint.
        source: whose it is.
        network, options: what `build_network` takes.
        num_classes: its outputs; None for an encoder alone.
        weights: float32 by the network's state-dict names, without batch norm's step counters.
        label_set: name of the label set its authors trained on; None where this package has none for it.
        complete: False if `weights` are the encoder's alone: they initialise a training
            (``load_state_dict(weights, strict=False)``) and are no model.
    """

    path: Path
    source: Source
    network: str
    options: dict[str, Any]
    num_classes: int | None
    weights: dict[str, np.ndarray]
    label_set: str | None
    complete: bool


def detect(names: Iterable[str]) -> Source | None:
    """Whose checkpoint has tensors of these names; None if unknown."""
    known = set(names)
    return next((source for source in SOURCES if known.issuperset(source.marks)), None)


def import_checkpoint(path: str | Path, *, num_classes: int | None = None) -> ImportedModel:
    """Read a checkpoint of one of `SOURCES`.

    Args:
        path: a PyTorch state dict (opened with ``weights_only=True``), safetensors, .npz or .t7.
        num_classes: how many outputs it must have; None takes what it has.

    Raises:
        CheckpointError: the file cannot be read, is of no known author, its tensors do not fit the network,
            or it has another number of outputs.
    """
    path = Path(path)
    tensors = _without_prefix(path, read_tensors(path))
    if all(name in tensors for name in INDEPENDENT_ENET):
        raise CheckpointError(_why_not_enet(path, tensors))
    source = detect(tensors)
    if source is None:
        first = (
            f"its first of {len(tensors)} tensors is '{next(iter(tensors))}'"
            if tensors
            else "it has no tensors"
        )
        supported = ", ".join(s.name for s in SOURCES)
        raise CheckpointError(
            f"checkpoint {path} is of an unknown source ({first}); supported are {supported}"
        )
    outputs = None if source.num_classes is None else source.num_classes(tensors)
    if num_classes is not None and outputs is not None and outputs != num_classes:
        raise CheckpointError(
            f"checkpoint {path} ({source.name}) has {outputs} classes, {num_classes} are wanted"
        )
    options = source.options(tensors)
    weights = source.convert(tensors)
    expected = _shapes(source.network, outputs or 1, options)
    if not source.complete:
        expected = {k: v for k, v in expected.items() if not k.startswith(("decoder", "head", "classifier"))}
    problem = compare_shapes(expected, {k: v.shape for k, v in weights.items()}, f"tensors of {source.name}")
    if problem:
        raise CheckpointError(f"checkpoint {path}: {problem}")
    label_set = source.label_sets.get(outputs) if outputs is not None else None
    return ImportedModel(path, source, source.network, options, outputs, weights, label_set, source.complete)


def write_model(
    model: ImportedModel,
    name: str,
    folder: Path,
    *,
    label_set: str | Path | None = None,
    width: int | None = None,
    height: int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    data_license: str | None = None,
) -> ModelManifest:
    """Write ``FOLDER/NAME.yaml`` and ``FOLDER/NAME.safetensors``.

    Args:
        model: a complete one.
        name: of the model.
        folder: made if it is not there.
        label_set: name of a label set, or a YAML file, which is copied to ``FOLDER/labels/``; None is the
            source's own.
        width: of the input [px]; None is the source's, as for what follows.
        height: of the input [px].
        mean: of images in [0, 1], by channel (R, G, B).
        std: of images in [0, 1], by channel (R, G, B).
        data_license: licence of the training data.

    Raises:
        CheckpointError: the model is an encoder alone, the name is no file name, no label set is known, or
            the label set has another number of classes.
        LabelSetError: there is no such label set.
    """
    from rt_segmentation.networks.complexity import count_gmacs, count_parameters

    if not model.complete or model.num_classes is None:
        raise CheckpointError(
            f"checkpoint {model.path} ({model.source.name}) holds {model.network}'s encoder alone:"
            " it initialises a training and is no model that could run"
        )
    if problem := name_problem(name):
        raise CheckpointError(problem)
    wanted = label_set if label_set is not None else model.label_set
    if wanted is None:
        raise CheckpointError(
            f"no label set is known for the {model.num_classes} classes of checkpoint {model.path}"
            f" ({model.source.name}); give one (--labels: a name, or a YAML file with the classes in order)"
        )
    labels = load_label_set(wanted)
    if len(labels.classes) != model.num_classes:
        raise CheckpointError(
            f"label set {wanted} has {len(labels.classes)} classes,"
            f" checkpoint {model.path} has {model.num_classes}"
        )
    source = model.source
    width = source.width if width is None else width
    height = source.height if height is None else height
    if min(width, height) < 32:
        raise CheckpointError(f"the model's input is {width} x {height}, both must be 32 or more")
    network = build_network(model.network, model.num_classes, **model.options)
    manifest = ModelManifest(
        path=folder / f"{name}.yaml",
        name=name,
        network=model.network,
        label_set=store_label_set(wanted, folder, name),
        width=width,
        height=height,
        weights=f"{name}.safetensors",
        sha256="",
        parameters=count_parameters(network),
        gmacs=round(count_gmacs(network, width, height), 3),
        license=printable(data_license or source.license),
        options=model.options,
        mean=mean or source.mean,
        std=std or source.std,
        training={"imported_from": printable(model.path.name), "source": source.name},
    )
    return save_model(manifest, model.weights)


def _without_prefix(path: Path, tensors: Tensors) -> Tensors:
    """The tensors under the one prefix with which the names are a source's, without it; else all.

    Wrappers of any kind put a prefix before all names of a network ('module.', 'model.', 'net.'); what has
    none is something else, as a loss's weights.
    """
    for marks in (INDEPENDENT_ENET, *(source.marks for source in SOURCES)):
        first = [name.removesuffix(marks[0]) for name in tensors if name.endswith(marks[0])]
        fitting = [
            prefix
            for prefix in first
            if prefix[-1:] in ("", ".") and all(prefix + mark in tensors for mark in marks)
        ]
        if "" in fitting:
            return tensors
        if len(fitting) > 1:
            raise CheckpointError(
                f"checkpoint {path} holds {len(fitting)} networks, under {', '.join(sorted(fitting))};"
                " save the one that is wanted alone"
            )
        for prefix in fitting:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return tensors


def _shapes(network: str, num_classes: int, options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        state = build_network(network, num_classes, **options).state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _why_not_enet(path: Path, tensors: dict[str, np.ndarray]) -> str:
    inner = tensors["downsample1_0.ext_conv1.0.weight"].shape[0]
    return (
        f"checkpoint {path} is of an ENet that differs from the paper's and cannot be imported: its first"
        f" downsampling bottleneck projects to {inner} channels (the authors' to 16), its convolutions have"
        " no biases, and a PReLU inside a bottleneck has one slope for all channels"
    )
