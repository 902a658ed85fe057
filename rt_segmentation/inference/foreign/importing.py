"""An ONNX file becomes a model: what can be told is told, the rest is asked for, and what it gave is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from rt_segmentation.inference.foreign import golden
from rt_segmentation.inference.foreign.golden import Pairs
from rt_segmentation.inference.foreign.inspection import Foreign, Meaning, count_gmacs
from rt_segmentation.inference.foreign.original import Original, Run, load
from rt_segmentation.inference.foreign.plausible import Preprocessing, plausible
from rt_segmentation.inference.foreign.probing import Prober, shape_text
from rt_segmentation.inference.parity import Gate
from rt_segmentation.labels import IGNORE_ID, LabelSet, load_label_set, store_label_set
from rt_segmentation.models import ModelError, ModelManifest, ONNXInterface, name_problem
from rt_segmentation.text import printable
from rt_segmentation.weights import save_onnx_model

DEFAULT_SIZE = (640, 480)
"""Of what takes any size and has no golden images [px]."""

_ROUNDED = 1e-2
"""So far a sum of probabilities may be from 1, in float16."""


@dataclass(frozen=True)
class Wishes:
    """What a user says of an ONNX file; None is for what the file tells, or what is usual.

    Attributes:
        label_set: a name, or a YAML file.
        size: (width, height) of the input [px].
        mean, std: of images times `scale`, by channel (R, G, B).
        scale: by what bytes are multiplied before mean and std; 1/255 by default.
        output: name of the output that is used.
        order, layout, gives: as in `ONNXInterface`.
        align_corners: see there.
        license: of the training data.
    """

    label_set: str | Path
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    output: str | None = None
    order: str | None = None
    layout: str | None = None
    gives: str | None = None
    align_corners: bool = False
    license: str = "unknown"


@dataclass(frozen=True)
class Imported:
    """A model that was made, and sentences that say what was told from its file, and how sure that is."""

    manifest: ModelManifest
    notes: tuple[str, ...]


def import_onnx(
    foreign: Foreign, name: str, folder: Path, wishes: Wishes, pairs: Pairs = (), where: str = ""
) -> Imported:
    """Make a model of an ONNX file.

    Args:
        foreign: the file.
        name: of the model.
        folder: for manifest and graph.
        wishes: what its user says.
        pairs: images and the labels that its own pipeline gave them; every engine must reproduce them.
        where: they are from, for messages.

    Raises:
        ModelError: something cannot be told, does not fit, or the labels are others; nothing is written.
        LabelSetError: there is no such label set.
    """
    if problem := name_problem(name):
        raise ModelError(problem)
    labels = load_label_set(wishes.label_set)
    layout = _layout(foreign, wishes.layout)
    run, dtype, library = load(foreign.data, foreign.input)
    notes: list[str] = []
    wanted = golden.one_size(pairs, where) if pairs else None
    size, fixed_size = _size(foreign, layout, wishes.size, wanted, notes)
    prober = Prober(foreign, run, dtype, layout)
    outputs = prober(size)
    output, gives, output_layout = _output(foreign, outputs, labels, wishes, layout)
    multiple = 1
    if not fixed_size:
        multiple = prober.multiple(output)
        if multiple == 0:
            notes.append(
                f"sizes are declared free, and other ones than {size[0]}x{size[1]} fail: it is fixed"
            )
            multiple, fixed_size = 1, True
    interface = ONNXInterface(
        input=foreign.input,
        output=output,
        gives=gives,
        layout=cast(Any, layout),
        output_layout=cast(Any, output_layout),
        order=cast(Any, wishes.order or "rgb"),
        fixed_size=fixed_size,
        fixed_batch=prober.fixed_batch(size),
        multiple=multiple,
        align_corners=wishes.align_corners,
    )
    notes.append(_stride_note(interface, outputs[output], size))
    original = _Choosing(foreign, run, dtype, interface, library, pairs, where)
    chosen = original.choose(wishes, notes)
    sides = (3, size[1], size[0]) if layout == "nchw" else (size[1], size[0], 3)
    manifest = ModelManifest(
        path=folder / f"{name}.yaml",
        name=name,
        network="",
        label_set=str(wishes.label_set),
        width=size[0],
        height=size[1],
        weights=f"{name}.onnx",
        sha256="",
        parameters=foreign.parameters,
        gmacs=round(count_gmacs(foreign.data, foreign.input, (1, *sides)), 3),
        license=printable(wishes.license),
        mean=chosen.mean,
        std=chosen.std,
        training={"imported_from": printable(foreign.path.name), "opset": foreign.opset},
        onnx=replace(interface, order=cast(Any, chosen.order)),
    )
    manifest = replace(manifest, label_set=store_label_set(wishes.label_set, folder, name))
    saved = save_onnx_model(manifest, foreign.data, golden.kept(pairs) if pairs else None)
    return Imported(saved, tuple(notes))


def _layout(foreign: Foreign, wish: str | None) -> str:
    dims = foreign.dims
    axes = {"nchw": dims[1], "nhwc": dims[3]}
    if wish is not None:
        if axes[wish] != 3 and (axes[wish] is not None or 3 in axes.values()):
            raise ModelError(
                f"--layout is {wish}, but input '{foreign.input}' is {shape_text(dims)}, where the 3 channels"
                " of images are not in that place"
            )
        return wish
    found = [layout for layout, channels in axes.items() if channels == 3]
    if len(found) == 1:
        return found[0]
    if None not in axes.values() and not found:
        raise ModelError(f"input '{foreign.input}' is {shape_text(dims)}; images have 3 channels")
    raise ModelError(
        f"input '{foreign.input}' is {shape_text(dims)}, which does not say where its channels are: give"
        " --layout nchw or --layout nhwc"
    )


def _size(
    foreign: Foreign,
    layout: str,
    wish: tuple[int, int] | None,
    wanted: tuple[int, int] | None,
    notes: list[str],
) -> tuple[tuple[int, int], bool]:
    """(width, height) of the input [px], and whether it is the only one."""
    height, width = foreign.dims[2:] if layout == "nchw" else foreign.dims[1:3]
    if height is None and width is None:
        size = wish or wanted or DEFAULT_SIZE
        if wish is None and wanted is None:
            notes.append(
                f"images may be of any size: {size[0]}x{size[1]} is assumed, --width and --height set another"
            )
        return size, False
    if width is None or height is None:
        known = wish or wanted
        if known is None:
            raise ModelError(
                f"input '{foreign.input}' is {shape_text(foreign.dims)}: give --width and --height"
            )
        width, height = width or known[0], height or known[1]
    size = (width, height)
    for other, what in ((wish, "--width and --height say"), (wanted, "the golden images are")):
        if other not in (None, size):
            assert other is not None
            raise ModelError(
                f"the graph takes images of {width}x{height} alone, and {what} {other[0]}x{other[1]}"
            )
    notes.append(f"it takes images of {width}x{height} alone")
    return size, True


def _output(
    foreign: Foreign, outputs: Mapping[str, np.ndarray], labels: LabelSet, wishes: Wishes, layout: str
) -> tuple[str, Meaning, str]:
    """The output that is used, what it has, and the order of its axes."""
    classes = len(labels.classes)
    if wishes.output is not None and wishes.output not in outputs:
        raise ModelError(f"{foreign.path} has no output '{wishes.output}'; there are {', '.join(outputs)}")
    names = list(outputs) if wishes.output is None else [wishes.output]
    shown = ", ".join(f"'{name}' {shape_text(outputs[name].shape)}" for name in names)
    found = []
    for name in names:
        gives = cast(Meaning, wishes.gives or foreign.meanings[name])
        place = _place(outputs[name], gives, classes, layout)
        if place:
            found.append((name, gives, place))
    if len(found) > 1:
        candidates = ", ".join(
            f"'{name}' {shape_text(outputs[name].shape)} ({gives})" for name, gives, _ in found
        )
        raise ModelError(
            f"{foreign.path} has {len(found)} outputs that may be the labels: {candidates}; name one with"
            " --output-name"
        )
    if not found:
        kind = f"{wishes.gives} of " if wishes.gives else ""
        raise ModelError(
            f"{foreign.path} gives {shown}: none has {kind}the {classes} classes of label set {labels.name},"
            f" as (N, {classes}, h, w), nor ids"
        )
    name, gives, place = found[0]
    if gives == "logits" and wishes.gives is None and _sums_to_one(outputs[name], place):
        # After operations that a softmax's numbers pass unchanged, as a Clip.
        gives = "probabilities"
    if outputs[name].dtype.kind == "f" and np.isnan(outputs[name]).any():
        raise ModelError(
            f"output '{name}' has values that are no numbers (NaN) for an image of noise: its weights are"
            " damaged, or its layers divide 0 by 0"
        )
    if gives == "labels":
        _check_ids(outputs[name], name, foreign.classes.get(name, classes), labels)
    return name, gives, place


def _check_ids(array: np.ndarray, name: str, chosen: int, labels: LabelSet) -> None:
    """Refuse ids that the label set has no classes for: masks would show nothing there, or something else.

    Args:
        array: what the output has for noise.
        name: of the output.
        chosen: between so many classes the graph chooses.
        labels: the label set.
    """
    if array.size and not 0 <= array.min() <= array.max() <= IGNORE_ID:
        raise ModelError(f"output '{name}' has numbers from {array.min()} to {array.max()}, which are no ids")
    if (array != np.round(array)).any():
        raise ModelError(f"output '{name}' has numbers that are not whole, which are no ids")
    classes = len(labels.classes)
    if chosen != classes:
        raise ModelError(
            f"output '{name}' has ids of {chosen} classes, and label set {labels.name} has {classes}"
        )
    others = array[(array >= classes) & (array != IGNORE_ID)]
    if others.size:
        raise ModelError(
            f"output '{name}' has id {others.max():g}, and the {classes} classes of label set {labels.name}"
            f" go from 0 to {classes - 1}; {IGNORE_ID} is unlabelled"
        )


def _sums_to_one(array: np.ndarray, place: str) -> bool:
    """Whether the classes' numbers are those of a softmax: none below 0, and 1 together, in every pixel."""
    if not array.size or array.min() < -_ROUNDED:
        return False
    sums = array.astype(np.float64).sum(axis=1 if place == "nchw" else 3)
    return bool(np.abs(sums - 1).max() < _ROUNDED)


def _place(array: np.ndarray, gives: Meaning, classes: int, layout: str) -> str:
    """The order of an output's axes; '' where it cannot have what it is to give."""
    if gives == "labels":
        if array.ndim == 3:
            return "nhw"
        if array.ndim != 4 or 1 not in (array.shape[1], array.shape[3]):
            return ""
        return "nchw" if array.shape[1] == 1 else "nhwc"
    if array.ndim != 4 or array.dtype.kind != "f":
        return ""
    fitting = [order for order, axis in (("nchw", 1), ("nhwc", 3)) if array.shape[axis] == classes]
    return layout if layout in fitting else (fitting[0] if fitting else "")


def _stride_note(interface: ONNXInterface, array: np.ndarray, size: tuple[int, int]) -> str:
    height = array.shape[1] if interface.output_layout in ("nhwc", "nhw") else array.shape[2]
    stride = size[1] / height
    small = "" if height == size[1] else f" at 1/{stride:g} of the size"
    multiple = f", sides are padded to multiples of {interface.multiple}" if interface.multiple > 1 else ""
    confidence = "; there is no confidence" if interface.gives == "labels" else ""
    return (
        f"input '{interface.input}' ({interface.layout}), output '{interface.output}' gives"
        f" {interface.gives}{small}{multiple}{confidence}"
    )


class _Choosing:
    """Says what is done to images before the graph sees them."""

    def __init__(
        self,
        foreign: Foreign,
        run: Run,
        dtype: np.dtype[Any],
        interface: ONNXInterface,
        library: str,
        pairs: Pairs,
        where: str,
    ) -> None:
        self._foreign, self._run, self._dtype = foreign, run, dtype
        self._interface, self._library, self._pairs, self._where = interface, library, pairs, where

    def choose(self, wishes: Wishes, notes: list[str]) -> Preprocessing:
        """What is wished, what labels agree with, or a question.

        Raises:
            ModelError: it is not known, or gives other labels than the golden ones.
        """
        candidates = self._candidates(wishes)
        if not self._pairs:
            if len(candidates) > 1:
                raise ModelError(
                    f"{self._foreign.path} does not say how images are normalised: give --mean and --std (of"
                    " ImageNet: 0.485 0.456 0.406 and 0.229 0.224 0.225), or labels of its own pipeline with"
                    " --golden or --reference, by which they are found"
                )
            if wishes.order is None:
                notes.append("channels are assumed to be in the order rgb; `rt_seg models check` shows both")
            return candidates[0]
        shares = [self._share(candidate) for candidate in candidates]
        best = int(np.argmax(shares))
        if shares[best] < Gate().fp32:
            how = "it gives"
            if len(candidates) > 1:
                how = f"{candidates[best].describe()}, the best of {len(candidates)} ways to normalise, gives"
            raise ModelError(
                f"{how} {shares[best]:.2%} of the pixels of {self._where} the label that they have there,"
                f" and {Gate().fp32:.1%} is needed: mean, std, scale, order or --align-corners differ"
            )
        found = (
            "" if len(candidates) == 1 else f", found among {len(candidates)}: {candidates[best].describe()}"
        )
        notes.append(
            f"{shares[best]:.3%} of the pixels of {len(self._pairs)} golden images have their label in"
            f" {self._library}{found}"
        )
        return candidates[best]

    def _candidates(self, wishes: Wishes) -> Sequence[Preprocessing]:
        if (wishes.mean is None) != (wishes.std is None):
            raise ModelError("--mean and --std belong together: give both")
        if self._dtype == np.uint8:
            if wishes.mean is not None or wishes.scale is not None:
                raise ModelError(
                    f"input '{self._foreign.input}' takes bytes: the graph normalises by itself, leave"
                    " --mean, --std and --scale out"
                )
            bytes_in = Preprocessing("bytes", (0.0,) * 3, (1 / 255,) * 3, wishes.order or "rgb")
            other = replace(bytes_in, order="bgr")
            return [bytes_in, other] if wishes.order is None and self._pairs else [bytes_in]
        orders = ("rgb", "bgr") if wishes.order is None and self._pairs else (wishes.order or "rgb",)
        if wishes.mean is None or wishes.std is None:
            if wishes.scale is not None:
                raise ModelError("--scale needs --mean and --std beside it")
            return [found for found in plausible() if found.order in (wishes.order or found.order)]
        if min(wishes.std) <= 0 or (wishes.scale is not None and wishes.scale <= 0):
            raise ModelError("--std and --scale must be above 0")
        # The same for images in [0, 1], as all models have it.
        factor = 1.0 if wishes.scale is None else 255 * wishes.scale
        mean, std = (tuple(value / factor for value in values) for values in (wishes.mean, wishes.std))
        if not -1 <= min(mean) <= max(mean) <= 1:
            raise ModelError(
                f"--mean {' '.join(f'{value:g}' for value in wishes.mean)} is not of images in [0, 1]: say"
                " what bytes are multiplied by before it, as --scale 1"
            )
        return [Preprocessing("given", mean, std, order) for order in orders]

    def _share(self, candidate: Preprocessing) -> float:
        interface = replace(self._interface, order=cast(Any, candidate.order))
        original = Original(self._run, self._dtype, interface, candidate.mean, candidate.std)
        return float(np.mean([np.mean(original(image).labels == ids) for image, ids in self._pairs]))
