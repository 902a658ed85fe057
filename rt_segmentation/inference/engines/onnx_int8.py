"""int8 in ONNX graphs: pairs that quantise and dequantise, put in by a model's ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges, Range

# Symmetric: -127 to 127.
LARGEST = 127

LEVELS = 255
"""Steps of a byte between the ends of its range."""

MOST_BIAS = 2**30
"""A bias of 32 bits leaves as much again to the sum that it is added to."""


def quantise(graph: Any, ranges: QuantizationRanges, unsigned: bool = False, bits: int = 8) -> None:
    """Put a pair before each input that is to be in int8; weights have a range by output channel.

    Args:
        graph: an ONNX graph without functions, changed in place.
        ranges: of the same model.
        unsigned: whether activations are bytes with a zero of their own, and biases integers of the sum's
            scale, as ONNX Runtime's kernels on CPUs want them. Else all zeros are at 0, as TensorRT's are:
            what lies on one side of it has seven of the eight bits.
        bits: of a weight, see `weight_bits`.

    Raises:
        EngineError: the graph lacks something that the ranges name.
    """
    pairs = _UnsignedPairs(graph, bits) if unsigned else _Pairs(graph, bits)
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
        in_int8 = False
        for index, name in enumerate(node.input):
            places = {place for place in _places(node) if place.endswith(f":{index}")}
            if places & weights.keys():
                node.input[index] = pairs.of_weights(name)
                in_int8 = True
                continue
            own = [ranges.inputs[place] for place in places if place in ranges.inputs]
            limits = own[0] if own else ranges.tensors.get(name)
            if limits is not None:
                node.input[index] = pairs.of_range(name, limits)
        if in_int8:
            pairs.with_bias(node)
        graph.node.append(node)


def without_functions(graph: Path | bytes) -> Any:
    """An ONNX model whose functions are operations of its graph.

    Args:
        graph: an ONNX file, or a model in memory.

    Raises:
        ImportError: the library onnx is missing.
    """
    import onnx
    from onnx import inliner

    model = onnx.load_model_from_string(graph) if isinstance(graph, bytes) else onnx.load(str(graph))
    return inliner.inline_local_functions(model) if model.functions else model


def with_bytes(graph: Path | bytes, ranges: QuantizationRanges, bits: int = 8) -> bytes:
    """A graph for ONNX Runtime's int8 on CPUs, with its weights.

    Args:
        graph: an ONNX file, or a model in memory.
        ranges: of the same model.
        bits: of a weight, see `weight_bits`.

    Raises:
        EngineError: the ranges do not fit.
        ImportError: the library onnx is missing.
    """
    model = without_functions(graph)
    quantise(model.graph, ranges, unsigned=True, bits=bits)
    used = {name for node in model.graph.node for name in node.input}
    replaced = set(ranges.convolutions) - used
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in replaced]:
        model.graph.initializer.remove(tensor)
    content: bytes = model.SerializeToString()
    return content


def _places(node: Any) -> list[str]:
    """The names that ranges have for a node's inputs; convolutions by channel have none."""
    names = list(node.output)
    if node.op_type == "Conv":
        grouped = any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        names = [] if grouped else [node.input[1]]
    return [f"{name}:{index}" for name in names for index in range(len(node.input))]


class _Pairs:
    """The pairs of a graph, one for each tensor and scale."""

    def __init__(self, graph: Any, bits: int) -> None:
        from onnx import numpy_helper

        self._graph = graph
        self._spread = 2 ** (8 - bits)
        self._made: dict[tuple[str, bytes, bytes], str] = {}
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}

    def of_range(self, name: str, limits: Range) -> str:
        """The name of what a tensor of this range is after its pair."""
        return self._pair(name, np.array(max(-limits[0], limits[1]) / LARGEST, np.float32))

    def of_weights(self, name: str) -> str:
        """Likewise of a convolution's weights, each output channel with its own range."""
        return self._pair(name, self._weight_scales(name), axis=0)

    def with_bias(self, node: Any) -> None:
        """What becomes of the bias of a convolution whose weights have a pair: it stays."""

    def _weight_scales(self, name: str) -> np.ndarray:
        # Bits that stay empty are those of a larger range.
        limits = np.abs(self.constants[name]).max(axis=(1, 2, 3)) * self._spread
        # A channel of zeros still needs a range.
        scales = np.maximum(limits, np.finfo(np.float32).tiny * LARGEST) / LARGEST
        return np.asarray(scales, np.float32)

    def _pair(self, name: str, scales: np.ndarray, zeros: np.ndarray | None = None, **axis: Any) -> str:
        zeros = np.zeros(scales.shape, np.int8) if zeros is None else zeros
        key = name, scales.tobytes(), zeros.tobytes()
        if key not in self._made:
            stem = f"int8/{name}/{len(self._made)}"
            numbers = self._constant(scales, f"{stem}/scale"), self._constant(zeros, f"{stem}/zero")
            self._add("QuantizeLinear", [name, *numbers], f"{stem}/quantised", **axis)
            self._add("DequantizeLinear", [f"{stem}/quantised", *numbers], stem, **axis)
            self._made[key] = stem
        return self._made[key]

    def _constant(self, values: np.ndarray, name: str) -> str:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _add(self, kind: str, inputs: list[str], made: str, **attributes: Any) -> None:
        from onnx import helper

        self._graph.node.append(helper.make_node(kind, inputs, [made], made, **attributes))


class _UnsignedPairs(_Pairs):
    """Activations as bytes with a zero of their own; constants are integers in the graph."""

    def __init__(self, graph: Any, bits: int) -> None:
        super().__init__(graph, bits)
        self._scales: dict[str, np.ndarray] = {}
        self._named: dict[str, str] = {}

    def of_range(self, name: str, limits: Range) -> str:
        """See `_Pairs`; 0 is a number that the bytes have."""
        low, high = min(limits[0], 0.0), max(limits[1], 0.0)
        scale = np.array((high - low) / LEVELS, np.float32)
        made = self._pair(name, scale, np.array(round(-low / float(scale)), np.uint8))
        self._scales[made] = scale
        return made

    def of_weights(self, name: str) -> str:
        """See `_Pairs`."""
        return self._weights(name, self._weight_scales(name))

    def with_bias(self, node: Any) -> None:
        """It becomes integers of the scale of the sums that it is added to: kernels rely on that."""
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias not in self.constants or node.input[0] not in self._scales:
            return
        values, of_input = self.constants[bias], self._scales[node.input[0]]
        weights, of_weights = self._named[node.input[1]], self._scales[node.input[1]]
        # Beside weights of almost nothing a bias has no place in 32 bits.
        least = (np.abs(values) / (of_input * MOST_BIAS)).astype(np.float32)
        if (of_weights < least).any():
            of_weights = np.maximum(of_weights, least)
            node.input[1] = self._weights(weights, of_weights)
        scales = (of_input * of_weights).astype(np.float32)
        node.input[2] = self._integers(bias, np.rint(values / scales).astype(np.int32), scales)

    def _weights(self, name: str, scales: np.ndarray) -> str:
        steps = np.rint(self.constants[name] / scales.reshape(-1, 1, 1, 1))
        made = self._integers(name, np.clip(steps, -LARGEST, LARGEST).astype(np.int8), scales)
        self._scales[made], self._named[made] = scales, name
        return made

    def _integers(self, name: str, values: np.ndarray, scales: np.ndarray) -> str:
        key = name, scales.tobytes(), values.dtype.str.encode()
        if key not in self._made:
            stem = f"int8/{name}/{len(self._made)}"
            inputs = [
                self._constant(values, f"{stem}/integers"),
                self._constant(scales, f"{stem}/scale"),
                self._constant(np.zeros(scales.shape, values.dtype), f"{stem}/zero"),
            ]
            self._add("DequantizeLinear", inputs, stem, axis=0)
            self._made[key] = stem
        return self._made[key]
