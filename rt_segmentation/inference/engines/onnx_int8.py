"""int8 for TensorRT: pairs that quantise and dequantise, put into an ONNX graph by a model's ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges, Range

# Symmetric, as TensorRT has it: -127 to 127.
LARGEST = 127


def quantise(graph: Any, ranges: QuantizationRanges) -> None:
    """Put a pair before each input that is to be in int8; weights have a range by output channel.

    TensorRT's int8 has its zero at 0: what lies on one side of it has seven of the eight bits.

    Args:
        graph: an ONNX graph without functions, changed in place.
        ranges: of the same model.

    Raises:
        EngineError: the graph lacks something that the ranges name.
    """
    pairs = _Pairs(graph)
    known = {name for node in graph.node for name in (*node.input, *node.output)}
    known |= {place for node in graph.node for place in _places(node)}
    weights = {f"{name}:1": name for name in ranges.convolutions}
    missing = [name for name in (*ranges.tensors, *ranges.inputs, *weights) if name not in known]
    missing += [name for place, name in weights.items() if place in known and name not in pairs.constants]
    if missing:
        raise EngineError(
            f"the int8 ranges do not fit the graph: {len(missing)} names are not in it (first '{missing[0]}')"
        )
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        for index, name in enumerate(node.input):
            places = {place for place in _places(node) if place.endswith(f":{index}")}
            if places & weights.keys():
                node.input[index] = pairs.of_weights(name)
                continue
            own = [ranges.inputs[place] for place in places if place in ranges.inputs]
            limits = own[0] if own else ranges.tensors.get(name)
            if limits is not None:
                node.input[index] = pairs.of_range(name, limits)
        graph.node.append(node)


def _places(node: Any) -> list[str]:
    """The names that ranges have for a node's inputs; convolutions by channel have none."""
    names = list(node.output)
    if node.op_type == "Conv":
        grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        names = [] if grouped else [node.input[1]]
    return [f"{name}:{index}" for name in names for index in range(len(node.input))]


class _Pairs:
    """The pairs of a graph, one for each tensor and scale."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._graph = graph
        self._made: dict[tuple[str, bytes], str] = {}
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}

    def of_range(self, name: str, limits: Range) -> str:
        """The name of what a tensor of this range is after its pair."""
        return self._pair(name, np.array(max(-limits[0], limits[1]), np.float32))

    def of_weights(self, name: str) -> str:
        """Likewise of a convolution's weights, each output channel with its own range."""
        limits = np.abs(self.constants[name]).max(axis=(1, 2, 3))
        # A channel of zeros still needs a range.
        return self._pair(name, np.maximum(limits, np.finfo(np.float32).tiny * LARGEST), axis=0)

    def _pair(self, name: str, largest: np.ndarray, **axis: Any) -> str:
        from onnx import helper, numpy_helper

        key = name, largest.tobytes()
        if key not in self._made:
            stem = f"int8/{name}/{len(self._made)}"
            scale, zero = f"{stem}/scale", f"{stem}/zero"
            scales = (largest / LARGEST).astype(np.float32)
            self._graph.initializer.append(numpy_helper.from_array(scales, scale))
            zeros = np.zeros(scales.shape, np.int8)
            self._graph.initializer.append(numpy_helper.from_array(zeros, zero))
            for kind, source, made in (
                ("QuantizeLinear", name, f"{stem}/quantised"),
                ("DequantizeLinear", f"{stem}/quantised", stem),
            ):
                node = helper.make_node(kind, [source, scale, zero], [made], made, **axis)
                self._graph.node.append(node)
            self._made[key] = stem
        return self._made[key]
