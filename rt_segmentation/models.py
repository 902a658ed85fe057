"""Models: a network with weights, classes and preprocessing, described by a manifest."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import user_path, write_atomically
from rt_segmentation.labels import LabelSet, LabelSetError, load_label_set
from rt_segmentation.networks import is_network, network_names
from rt_segmentation.profiles import Profile
from rt_segmentation.resources import installed_models_dir, share_dir
from rt_segmentation.settings import SettingsError, load_yaml, read_mapping, read_settings, to_plain
from rt_segmentation.text import is_name, one_line, printable

_log = logging.getLogger(__name__)

MIN_SIDE, MAX_SIDE = 32, 16384
"""Of the input size that a manifest may have [px]."""

# Far from what anybody trains with, near enough to find a slip. Numbers of bytes, as 123.675 and 58.395, are
# let through, and so are networks that take bytes (std 1 / 255).
MAX_STATISTIC = 1000
"""Of a mean's size, and of a std: with larger ones all images look the same to the network."""

MAX_NORMALISED = 65504
"""Of a normalised pixel: float16's largest number, in which engines compute."""

TEMPERATURES = 0.01, 100
"""The least and the largest. `rt_seg models profile` finds 0.2 to 5; far outside, confidences say nothing."""


class ModelError(RtSegmentationError, ValueError):
    """A model that cannot be found, read or trusted; the message names the file and what differs."""


@dataclass(frozen=True)
class Score:
    """What the stored weights scored: `value` as a fraction, on frames of width x height [px].

    `precision` is the engine's that gave the labels.
    """

    metric: str
    dataset: str
    split: str
    value: float
    width: int
    height: int
    precision: str = "fp32"


@dataclass(frozen=True)
class ONNXInterface:
    """How images get into an ONNX graph of somebody else's, and what comes out of it.

    Attributes:
        input: name of the graph's input for images, of three channels.
        output: name of the output that is used.
        gives: what that has: 'logits' or 'probabilities' of the classes, or 'labels'.
        layout: order of the input's axes.
        output_layout: of the output's; 'nhw' for labels without an axis of channels.
        order: of the input's channels. The manifest's mean and std are in the order R, G, B all the same.
        fixed_size: whether the manifest's width x height is the only size that the graph takes.
        fixed_batch: whether it takes one frame at a time.
        multiple: of what the sides must be multiples of [px]; images are padded with zeros.
        align_corners: how an output that is smaller than the image is enlarged: between the centres of the
            corner pixels, or, as is usual, between their outer edges.
        golden: file of images and of the labels that they must get, beside the manifest; '' without one.
        golden_sha256: of that file.
    """

    input: str
    output: str
    gives: Literal["logits", "probabilities", "labels"]
    layout: Literal["nchw", "nhwc"] = "nchw"
    output_layout: Literal["nchw", "nhwc", "nhw"] = "nchw"
    order: Literal["rgb", "bgr"] = "rgb"
    fixed_size: bool = False
    fixed_batch: bool = False
    multiple: int = 1
    align_corners: bool = False
    golden: str = ""
    golden_sha256: str = ""


@dataclass(frozen=True)
class ModelManifest:
    """A model, as its YAML file describes it.

    Attributes:
        path: the manifest's file; the weights lie beside it.
        name: equals the file's stem.
        network, options: what `build_network` takes; '' where the weights are an ONNX graph.
        label_set: name of a label set, or the path of one below the manifest's folder.
        width, height: input size the model was made for [px].
        mean, std: normalisation of images in [0, 1], by channel (R, G, B).
        weights: file name of the safetensors, or of the ONNX graph.
        sha256: of that file.
        aliases: short names, as `lednet` for `lednet_camvid`.
        training: where the weights come from: recipe, data, commit, epochs, hours, machine.
        scores: of the stored weights.
        parameters: how many the network has.
        gmacs: 1e9 multiply-accumulates for one frame of width x height; 0 where they could not be counted.
        license: of the training data.
        onnx: what an ONNX graph takes and gives; None for the networks of this package and of its users.
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
    onnx: ONNXInterface | None = None
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
        """The file of the weights."""
        return self.path.parent / self.weights

    @property
    def architecture(self) -> str:
        """The network's name, or 'ONNX', for people."""
        return self.network or "ONNX"

    @property
    def has_confidence(self) -> bool:
        """Whether its graph can tell how sure it is; one that gives labels alone cannot."""
        return self.onnx is None or self.onnx.gives != "labels"

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(width, height) of the only input that its graph takes [px]; None where it takes others too."""
        return (self.width, self.height) if self.onnx is not None and self.onnx.fixed_size else None


def list_models(folder: Path | None = None) -> list[ModelManifest]:
    """The manifests in a folder, sorted by name; without a folder those that are found by name.

    These are the installed ones (`installed_models_dir`), then those that come with the package. An installed
    one that cannot be read is left out, and the log says so.
    """
    if folder is not None:
        return [read_manifest(p) for p in sorted(folder.glob("*.yaml"))]
    found: dict[str, ModelManifest] = {}
    for path in sorted(installed_models_dir().glob("*.yaml")):
        try:
            found[path.stem] = read_manifest(path)
        except ModelError as error:
            _log.warning("an installed model is left out: %s", error)
    shipped = {manifest.name: manifest for manifest in list_models(share_dir() / "models")}
    return list({**found, **shipped, **found}.values())


def find_model(name_or_path: str | Path) -> ModelManifest:
    """Find a model by name (`lednet_camvid`), by short name (`lednet`) or by its manifest's path.

    Raises:
        ModelError: there is none; the message lists what there is.
    """
    if str(name_or_path).endswith((".yaml", ".yml")):
        return read_manifest(user_path(name_or_path))
    manifests = list_models()
    # A name goes before another model's short name.
    for names in ([(m.name,) for m in manifests], [m.aliases for m in manifests]):
        for manifest, known in zip(manifests, names):
            if str(name_or_path) in known:
                return manifest
    path = user_path(name_or_path)
    if path.suffix in (".safetensors", ".onnx") or os.path.isdir(path):
        raise ModelError(f"'{name_or_path}' is no model: give the path of its manifest (.yaml)")
    listed = ", ".join(name for m in manifests for name in (*m.aliases, m.name)) or "none"
    raise ModelError(
        f"unknown model {str(name_or_path)!r}; there are {listed}, or give the path of a manifest (.yaml)"
    )


def model_argument(manifest: ModelManifest) -> str:
    """What `--model` takes for a model, quoted: its name, or its file where the name is not its alone."""
    with contextlib.suppress(ModelError):
        if find_model(manifest.name).path == manifest.path:
            return shlex.quote(manifest.name)
    return shlex.quote(str(manifest.path))


def read_manifest(path: Path) -> ModelManifest:
    """Read and check a manifest; the weights are not opened.

    Raises:
        ModelError: the file is missing or not YAML, or a key is missing, unknown or has a wrong value.
    """
    return _manifest(path, read_mapping(path, "model manifest", ModelError))


def _manifest(path: Path, content: dict[str, Any]) -> ModelManifest:
    given: dict[str, object] = {"path": path, "name": path.stem}
    if content.get("onnx") is not None:
        # The graph is the network.
        given["network"] = ""
    try:
        manifest = read_settings(ModelManifest, content, given=given)
    except SettingsError as error:
        raise ModelError(f"model manifest {path}: {error}") from error
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: ModelManifest) -> None:
    """Check what a manifest says; its files are not opened.

    Raises:
        ModelError: a value is wrong.
    """
    problem = _problem(manifest)
    if problem:
        raise ModelError(f"model manifest {manifest.path}: {problem}")


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a model that is to be made, in words."""
    if Path(name).name != name or name in ("", ".", ".."):
        return f"model name '{printable(name)}' must be a plain file name without folders or ending"
    if not is_name(name):
        return f"model name '{one_line(printable(name))}' must be a text of one line, in UTF-8"
    return None


def size_problem(width: int, height: int) -> str | None:
    """What is wrong with the size of a network's input [px], in words."""
    if min(width, height) < MIN_SIDE:
        return f"width x height is {width} x {height}, both must be {MIN_SIDE} or more"
    if max(width, height) > MAX_SIDE:
        return f"width x height is {width} x {height}, both must be {MAX_SIDE} or less"
    return None


def normalisation_problem(mean: Sequence[float], std: Sequence[float]) -> str | None:
    """What is wrong with a normalisation of images in [0, 1], in words."""
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))):
        return "mean and std must have three numbers each"
    if min(std) <= 0:
        return f"std is {list(std)}, all must be above 0"
    largest = max(max(abs(m), abs(1 - m)) / s for m, s in zip(mean, std))
    if max(std) > MAX_STATISTIC or max(map(abs, mean)) > MAX_STATISTIC or largest > MAX_NORMALISED:
        return (
            f"mean {list(mean)} and std {list(std)} cannot be meant: they are of images from 0 to 1, as 0.485"
            f" and 0.229; neither may be above {MAX_STATISTIC}, nor a pixel above {MAX_NORMALISED} with them"
        )
    return None


def temperature_problem(temperature: float) -> str | None:
    """What is wrong with what logits are divided by, in words."""
    lowest, highest = TEMPERATURES
    if not lowest <= temperature <= highest:
        return f"temperature is {temperature}, it must be from {lowest} to {highest}"
    return None


def _problem(manifest: ModelManifest) -> str | None:
    suffix = ".safetensors" if manifest.onnx is None else ".onnx"
    if manifest.onnx is None and not is_network(manifest.network):
        return f"network is '{manifest.network}', it must be one of {', '.join(network_names())}"
    if problem := size_problem(manifest.width, manifest.height):
        return problem
    if problem := normalisation_problem(manifest.mean, manifest.std):
        return problem
    if manifest.parameters < 0 or not 0 <= manifest.gmacs < math.inf:
        return f"parameters {manifest.parameters} and gmacs {manifest.gmacs} must be numbers from 0 on"
    for score in manifest.scores:
        if not 0 <= score.value <= 1:
            return f"a score's value is {score.value}, it must be a fraction from 0 to 1"
        if problem := size_problem(score.width, score.height):
            return f"a score's {problem}"
    if Path(manifest.weights).name != manifest.weights or not manifest.weights.endswith(suffix):
        return f"weights is '{manifest.weights}', it must name a {suffix} file beside the manifest"
    if manifest.onnx is not None:
        if manifest.onnx.multiple < 1:
            return f"onnx.multiple is {manifest.onnx.multiple}, it must be 1 or more"
        if Path(manifest.onnx.golden).name != manifest.onnx.golden:
            return f"onnx.golden is '{manifest.onnx.golden}', it must name a file beside the manifest"
    label_path = Path(manifest.label_set)
    if label_path.is_absolute() or ".." in label_path.parts:
        return f"label_set is '{manifest.label_set}', it must be a name or a file below the manifest's folder"
    if problem := temperature_problem(manifest.temperature):
        return problem
    if manifest.onnx is not None and manifest.onnx.gives != "logits" and manifest.temperature != 1:
        return (
            f"temperature is {manifest.temperature}, an ONNX graph that gives {manifest.onnx.gives} has none:"
            " leave it out"
        )
    if manifest.profile is not None:
        try:
            Profile.read(to_plain(manifest.profile), len(manifest.labels().classes))
        except ValueError as error:
            return str(error)
    return None


def write_manifest(manifest: ModelManifest) -> ModelManifest:
    """Write the manifest alone, replaced whole or not at all.

    Returns:
        The manifest as written.

    Raises:
        ModelError: `read_manifest` would refuse it; nothing is written then.
        OSError: it cannot be written.
    """
    content = to_plain(manifest)
    del content["path"], content["name"], content["network" if manifest.onnx is not None else "onnx"]
    # What says nothing is left out.
    if manifest.temperature == 1:
        del content["temperature"]
    if manifest.profile is None:
        del content["profile"]
    text = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
    try:
        written = _manifest(manifest.path, load_yaml(text))
    # As a name of a file that is not UTF-8, which YAML writes and does not read.
    except yaml.YAMLError as error:
        raise ModelError(f"{manifest.path} would not be readable: {one_line(error)}") from error
    write_atomically(manifest.path, text.encode())
    return written
