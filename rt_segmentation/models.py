"""Models: a network with weights, classes and preprocessing, described by a manifest.

Reading one needs no torch: weights come as NumPy arrays.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import write_atomically
from rt_segmentation.labels import LabelSet, LabelSetError, load_label_set
from rt_segmentation.networks import is_network, network_names
from rt_segmentation.profiles import Profile
from rt_segmentation.resources import share_dir
from rt_segmentation.safetensors_reader import SafetensorsError, read_safetensors
from rt_segmentation.settings import read_file, to_plain


class ModelError(RtSegmentationError, ValueError):
    """A model that cannot be found, read or trusted; the message names the file and what differs."""


@dataclass(frozen=True)
class Score:
    """What the stored weights scored: `value` as a fraction, on frames of width x height [px]."""

    metric: str
    dataset: str
    split: str
    value: float
    width: int
    height: int


@dataclass(frozen=True)
class ModelManifest:
    """A model, as its YAML file describes it.

    Attributes:
        path: the manifest's file; the weights lie beside it.
        name: equals the file's stem.
        network, options: what `build_network` takes.
        label_set: name of a label set, or the path of one below the manifest's folder.
        width, height: input size the model was made for [px].
        mean, std: normalisation of images in [0, 1], by channel (R, G, B).
        weights: file name of the safetensors.
        sha256: of that file.
        aliases: short names, as `lednet` for `lednet_camvid`.
        training: where the weights come from: recipe, data, commit, epochs, hours, machine.
        scores: of the stored weights.
        parameters: how many the network has.
        gmacs: 1e9 multiply-accumulates for one frame of width x height.
        license: of the training data.
        temperature: what logits are divided by for confidences that are as often right as they say.
        profile: what the answers usually look like.
    """

    path: Path
    name: str
    network: str
    label_set: str
    width: int
    height: int
    weights: str
    sha256: str
    parameters: int
    gmacs: float
    license: str
    options: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    aliases: tuple[str, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    temperature: float = 1.0
    profile: Profile | None = None

    def labels(self) -> LabelSet:
        """The label set.

        Raises:
            ModelError: there is none of that name.
        """
        beside = self.path.parent / self.label_set
        try:
            return load_label_set(beside if beside.suffix in (".yaml", ".yml") else self.label_set)
        except LabelSetError as error:
            raise ModelError(f"model {self.path}: {error}") from error

    @property
    def weights_path(self) -> Path:
        """The safetensors file."""
        return self.path.parent / self.weights


def list_models(folder: Path | None = None) -> list[ModelManifest]:
    """The manifests in a folder, sorted by name; without a folder those that come with the package."""
    return [read_manifest(p) for p in sorted((folder or share_dir() / "models").glob("*.yaml"))]


def find_model(name_or_path: str | Path) -> ModelManifest:
    """Find a model by name (`lednet_camvid`), by short name (`lednet`) or by its manifest's path.

    Raises:
        ModelError: there is none; the message lists what there is.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        return read_manifest(Path(name_or_path).expanduser())
    manifests = list_models()
    for manifest in manifests:
        if name_or_path == manifest.name or name_or_path in manifest.aliases:
            return manifest
    names = ", ".join(name for m in manifests for name in (*m.aliases, m.name)) or "none"
    raise ModelError(
        f"unknown model '{name_or_path}'; there are {names}, or give the path of a manifest (.yaml)"
    )


def read_manifest(path: Path) -> ModelManifest:
    """Read and check a manifest; the weights are not opened.

    Raises:
        ModelError: the file is missing or not YAML, or a key is missing, unknown or has a wrong value.
    """
    manifest = read_file(ModelManifest, path, "model manifest", ModelError, {"path": path, "name": path.stem})
    problem = _problem(manifest)
    if problem:
        raise ModelError(f"model manifest {path}: {problem}")
    return manifest


def _problem(manifest: ModelManifest) -> str | None:
    if not is_network(manifest.network):
        return f"network is '{manifest.network}', it must be one of {', '.join(network_names())}"
    if min(manifest.width, manifest.height) < 32:
        return f"width x height is {manifest.width} x {manifest.height}, both must be 32 or more"
    if len(manifest.mean) != 3 or len(manifest.std) != 3 or min(manifest.std) <= 0:
        return "mean and std must have three numbers each, std above 0"
    if Path(manifest.weights).name != manifest.weights or not manifest.weights.endswith(".safetensors"):
        return f"weights is '{manifest.weights}', it must name a .safetensors file beside the manifest"
    label_path = Path(manifest.label_set)
    if label_path.is_absolute() or ".." in label_path.parts:
        return f"label_set is '{manifest.label_set}', it must be a name or a file below the manifest's folder"
    if not 0 < manifest.temperature < math.inf:
        return f"temperature is {manifest.temperature}, it must be above 0"
    if manifest.profile is not None:
        try:
            Profile.read(to_plain(manifest.profile), len(manifest.labels().classes))
        except ValueError as error:
            return str(error)
    return None


def load_weights(manifest: ModelManifest) -> dict[str, np.ndarray]:
    """Read the weights, float32, by the network's state-dict names.

    Raises:
        ModelError: the file is missing, its sha256 is not the manifest's, or it is not safetensors.
    """
    path = manifest.weights_path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"weights {path} of model '{manifest.name}' cannot be read: {error.strerror}"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.sha256:
        raise ModelError(
            f"weights {path} have sha256 {digest[:12]}…, manifest {manifest.path} says"
            f" {manifest.sha256[:12]}…; the file is damaged or another one"
        )
    try:
        arrays = read_safetensors(data)
    except SafetensorsError as error:
        raise ModelError(f"weights {path} are not a safetensors file: {error}") from error
    return {key: array.astype(np.float32) for key, array in arrays.items()}


def compare_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], what: str = "weights"
) -> str | None:
    """Say in one sentence how names and shapes of weights differ from a network's; None if they do not."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    differing = sorted(k for k in set(expected) & set(found) if expected[k] != found[k])
    parts = []
    if missing:
        parts.append(f"{len(missing)} tensors are missing (first '{missing[0]}')")
    if extra:
        parts.append(f"{len(extra)} are not the network's (first '{extra[0]}')")
    if differing:
        key = differing[0]
        parts.append(
            f"{len(differing)} have another shape (first '{key}': {found[key]}, wanted {expected[key]})"
        )
    return f"the {what} do not fit the network: {'; '.join(parts)}" if parts else None


def save_model(manifest: ModelManifest, arrays: dict[str, np.ndarray]) -> ModelManifest:
    """Write weights (as the arrays' dtypes) and then the manifest, each replaced whole or not at all.

    Args:
        manifest: `path` says where; `sha256` is filled in.
        arrays: by the network's state-dict names.

    Returns:
        The manifest as written.

    Raises:
        ModelError: `read_manifest` would refuse the manifest; nothing is written then.
    """
    from safetensors.numpy import save

    problem = _problem(manifest)
    if problem:
        raise ModelError(f"model manifest {manifest.path}: {problem}")
    data = save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    manifest.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(manifest.weights_path, data)
    return write_manifest(replace(manifest, sha256=hashlib.sha256(data).hexdigest()))


def write_manifest(manifest: ModelManifest) -> ModelManifest:
    """Write the manifest alone, replaced whole or not at all.

    Returns:
        The manifest as written.

    Raises:
        ModelError: `read_manifest` would refuse it; nothing is written then.
        OSError: it cannot be written.
    """
    problem = _problem(manifest)
    if problem:
        raise ModelError(f"model manifest {manifest.path}: {problem}")
    content = to_plain(manifest)
    del content["path"], content["name"]
    # What says nothing is left out.
    if manifest.temperature == 1:
        del content["temperature"]
    if manifest.profile is None:
        del content["profile"]
    text = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
    write_atomically(manifest.path, text.encode())
    return read_manifest(manifest.path)
