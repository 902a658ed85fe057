"""Which of OpenVINO's kernels compute the convolutions: read, timed by groups of like layers, and chosen."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from rt_segmentation.inference.options import EVERY_LAYER, FLOAT

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass(frozen=True)
class LayerGroup:
    """Convolutions of one shape in one frame.

    Attributes:
        name: kernel, stride and dilation where they are not 1, channels, the output's height x width.
        layers: how many there are.
        ms: their time together, by OpenVINO's clock of every layer.
        kernels: what computes them, by OpenVINO's names, in order of the alphabet.
    """

    name: str
    layers: int
    ms: float
    kernels: tuple[str, ...]


def choose_kernels(
    core: openvino.Core, model: openvino.Model, kernels: Sequence[tuple[str, str]]
) -> openvino.Model:
    """A model whose convolutions prefer kernels, where those can compute them (`Options.kernels`).

    OpenVINO takes this from a model's file alone: as the attribute `primitives_priority` of its layers.
    """
    if not kernels:
        return model
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        openvino.serialize(model, str(path), str(weights))
        tree = ElementTree.parse(path)
        for layer in tree.iter("layer"):
            family = _family(_name_in_file(layer), kernels) if layer.get("type") in _CONVOLUTIONS else ""
            if family not in ("", FLOAT):
                info = layer.find("rt_info")
                if info is None:
                    info = ElementTree.Element("rt_info")
                    layer.insert(1, info)
                value = f"cpu:{family}_1x1,cpu:{family}"
                ElementTree.SubElement(
                    info, "attribute", name="primitives_priority", version="0", value=value
                )
        tree.write(path)
        # From bytes: nothing holds on to a file that is about to go.
        return core.read_model(path.read_bytes(), weights.read_bytes())


def in_float(model: openvino.Model, kernels: Sequence[tuple[str, str]]) -> list[str]:
    """Names of the weights of the convolutions that are left out of int8 (`Options.kernels`)."""
    group_of = _groups(model)
    return [
        node.input_value(1).get_node().get_friendly_name()
        for node in model.get_ops()
        if node.get_friendly_name() in group_of
        and _family(group_of[node.get_friendly_name()], kernels) == FLOAT
    ]


def _family(name: str, kernels: Sequence[tuple[str, str]]) -> str:
    """What a group's name gets."""
    found = ""
    for group, family in kernels:
        if group in (EVERY_LAYER, name):
            found = family
    return found


def _name_in_file(layer: ElementTree.Element) -> str:
    data = layer.find("data")
    ports = [
        [int(dim.text or 0) for dim in port.findall("dim")]
        for side in ("input", "output")
        for port in layer.findall(f"{side}/port")
    ]
    pairs = [
        [int(part) for part in (data.get(name, "1") if data is not None else "1").split(",")]
        for name in ("strides", "dilations")
    ]
    return _group_name(ports[1], ports[-1], pairs[0], pairs[1])


def _group_name(
    weights: Sequence[int], output: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> str:
    # Weights of a grouped convolution have the number of groups in front.
    groups = weights[0] if len(weights) == 5 else 1
    kernel = "x".join(map(str, weights[-2:]))
    parts = [kernel]
    parts += ["/" + "x".join(map(str, strides))] if set(strides) != {1} else []
    parts += ["*" + "x".join(map(str, dilations))] if set(dilations) != {1} else []
    channels = f"{weights[-3] * groups}>{weights[-4] * groups}" + (f" in {groups}" if groups > 1 else "")
    return f"{''.join(parts)} {channels} {'x'.join(map(str, output[2:]))}"


def _groups(model: openvino.Model) -> dict[str, str]:
    """The group of every convolution, by the layer's name."""
    found = {}
    for node in model.get_ops():
        if node.get_type_name() in _CONVOLUTIONS:
            weights, output = (
                [d.get_length() if d.is_static else 0 for d in port.get_partial_shape()]
                for port in (node.input(1), node.output(0))
            )
            attributes: dict[str, Any] = node.get_attributes()
            name = _group_name(weights, output, list(attributes["strides"]), list(attributes["dilations"]))
            found[node.get_friendly_name()] = name
    return found


def executed_kernels(compiled: openvino.CompiledModel) -> dict[str, str]:
    """What computes every layer that is computed, by OpenVINO's names of both."""
    found = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in _CONVOLUTIONS:
            found[node.get_friendly_name()] = info["primitiveType"].astype(str)
    return found


def time_groups(
    model: openvino.Model, compiled: openvino.CompiledModel, frames: np.ndarray, runs: int = 5
) -> list[LayerGroup]:
    """Time a model's groups of convolutions, the longest first.

    Args:
        model: that was compiled.
        compiled: with the property PERF_COUNT.
        frames: uint8 (N, H, W, 3) RGB, of the compiled size.
        runs: that are timed, after two that are not.
    """
    group_of = _groups(model)
    request = compiled.create_infer_request()
    total_ms: dict[str, float] = defaultdict(float)
    for number in range(runs + 2):
        request.infer([frames], share_inputs=True)
        if number < 2:
            continue
        for layer in request.profiling_info:
            if layer.node_name in group_of:
                total_ms[group_of[layer.node_name]] += layer.real_time.total_seconds() * 1e3 / runs
    kernels: dict[str, list[str]] = defaultdict(list)
    for name, kernel in executed_kernels(compiled).items():
        if name in group_of:
            kernels[group_of[name]].append(kernel)
    groups = [
        LayerGroup(name, len(found), round(total_ms[name], 3), tuple(sorted(set(found))))
        for name, found in kernels.items()
    ]
    return sorted(groups, key=lambda group: -group.ms)
