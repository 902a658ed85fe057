"""Finds the ranges for int8 on real frames with NNCF; what it finds is used without NNCF (`ranges`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.files import check_file, write_atomically
from rt_segmentation.inference.engines.export import LABELS_ONLY, graph_entry, onnx_model
from rt_segmentation.inference.engines.interface import CalibrationFrames, EngineError, EngineUnavailable
from rt_segmentation.inference.engines.openvino_int8.ranges import (
    QuantizationRanges,
    Range,
    compared_logits,
    normalisation,
    ranges_path,
)
from rt_segmentation.inference.engines.openvino_orders import read_graph
from rt_segmentation.models import ModelManifest

# Pooling with indices and its inverse compute nothing that int8 makes faster. And the sums of LEDNet's units:
# their maps are rearranged as they are; to convert them costs more than it spares. What depthwise
# convolutions read has a range for each channel, and the file of ranges has one for each tensor.
_KEPT_TYPES = ["Maximum", "Subtract", "Multiply", "Ceiling", "Clamp", "GroupConvolution"]
_KEPT_NAMES = [".*/unpool/.*", r".*/encoder\.[0-9]+/Add.*"]


def ranges_from(manifest: ModelManifest, frames: CalibrationFrames) -> str:
    """Find a model's ranges on frames of its size, and say where they are; see `find_ranges`."""
    # Before minutes of work.
    check_file(ranges_path(manifest))
    chosen, source = frames(manifest.height, manifest.width)
    path = find_ranges(manifest, chosen, source)
    return f"{path}: int8 ranges of {manifest.name}, found on {len(chosen)} frames of {source}"


def find_ranges(manifest: ModelManifest, frames: Sequence[np.ndarray], source: str) -> Path:
    """Find a model's ranges and write them beside its weights.

    Args:
        manifest: the model.
        frames: uint8 (height, width, 3) RGB of the manifest's size; some dozens that show what it will see.
        source: where they come from, in words, for the file.

    Returns:
        The file.

    Raises:
        EngineUnavailable: OpenVINO or NNCF is missing.
        EngineError: there is no graph of the model, or NNCF fails.
        OSError: the file cannot be written.
    """
    try:
        import nncf
        import openvino
    except ImportError as error:
        if error.name is None:
            raise EngineUnavailable(f"int8 ranges cannot be found here: {error}") from error
        raise EngineUnavailable(
            f"int8 ranges need the Python package '{error.name}': pip install nncf openvino"
        ) from error

    logging.getLogger("nncf").setLevel(logging.WARNING)
    graph = onnx_model(graph_entry(manifest, 1, manifest.height, manifest.width), LABELS_ONLY)
    model = read_graph(openvino.Core(), graph)
    try:
        quantized = nncf.quantize(
            model,
            nncf.Dataset(frames, lambda frame: frame[np.newaxis]),
            # Activations have ranges that need not be symmetric: PReLU's are not.
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(frames),
            ignored_scope=nncf.IgnoredScope(types=_KEPT_TYPES, patterns=_KEPT_NAMES, validate=False),
            # Corrected biases would be another thing to ship, and labels do not need them.
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )
    except Exception as error:
        raise EngineError(f"NNCF cannot quantise model '{manifest.name}': {error}") from error
    found = {"frames": len(frames), "of": source, "nncf": nncf.__version__, **normalisation(manifest)}
    try:
        ranges = _read_ranges(model, quantized, manifest.sha256, found)
    except (KeyError, ValueError) as error:
        # Graphs of others have operations that NNCF quantises in other ways than those of ours.
        raise EngineError(
            f"model '{manifest.name}' cannot be computed in int8: a range that NNCF found has no place in its"
            f" graph ({error})"
        ) from error
    ranges = replace(ranges, top_logit=_top_logit(model, frames))
    path = ranges_path(manifest)
    write_atomically(path, ranges.to_json())
    return path


def _top_logit(model: Any, frames: Sequence[np.ndarray]) -> Range | None:
    """The least and the largest of all pixels' top logits; None where logits are not compared as bytes."""
    import openvino

    logits = compared_logits(model)
    if logits is None:
        return None
    (topk,) = _of_type(model, "TopK")
    watched = openvino.Model([topk.output(0)], model.get_parameters(), "top logits")
    compiled = openvino.Core().compile_model(watched, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    tops = [compiled([frame[np.newaxis]])[0] for frame in frames]
    return float(min(top.min() for top in tops)), float(max(top.max() for top in tops))


def _read_ranges(model: Any, quantized: Any, sha256: str, found: Mapping[str, Any]) -> QuantizationRanges:
    outputs, weights, sources = {}, {}, {}
    for node in model.get_ops():
        if node.get_output_size() and node.output(0).get_names():
            outputs[node.get_friendly_name()] = min(node.output(0).get_names())
        if node.get_type_name() == "Convolution":
            weights[node.get_friendly_name()] = node.input_value(1).get_node().get_friendly_name()
            sources[node.get_friendly_name()] = node.input_value(0)
    tensors: dict[str, Range] = {}
    inputs: dict[str, Range] = {}
    for node in _of_type(quantized, "FakeQuantize"):
        # NNCF's names: of the node whose output, or whose input, is quantised.
        target, _, place = node.get_friendly_name().rpartition("/fq_")
        kind, _, port = place.partition("_")
        low, high = (float(node.input_value(i).get_node().data.item()) for i in (1, 2))
        if kind == "input" and _is_sliced(sources.get(target)):
            # The pooling with indices beside the convolution: it moves bytes if it gets the same rounded
            # values. Of equal ones in its window the first wins, in pooling and unpooling alike.
            tensors[min(sources[target].get_names())] = low, high
        elif kind == "input":
            inputs[f"{weights.get(target) or outputs[target]}:{port}"] = low, high
        else:
            tensors[outputs[target]] = low, high
    # NNCF stores the weights that it quantised in eight bits.
    convolutions = [
        weights[node.get_friendly_name()]
        for node in _of_type(quantized, "Convolution")
        if node.input_value(1).get_node().get_type_name() != "Constant"
    ]
    return QuantizationRanges(tensors, inputs, tuple(sorted(convolutions)), sha256, found)


def _is_sliced(source: Any) -> bool:
    readers = () if source is None else source.get_target_inputs()
    return any(reader.get_node().get_type_name() == "Slice" for reader in readers)


def _of_type(model: Any, name: str) -> Iterable[Any]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() == name)
