"""Our ONNX graphs as TensorRT's parser takes them: bytes at the edges alone, and fp16 by its types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.engines.onnx_int8 import quantise, without_functions
from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges

LARGEST_HALF, SMALLEST_HALF = 65504.0, 2.0**-24

# Their scales are float32, or the type of what they quantise from opset 19 on.
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
# Where Resize has numbers that are float32 in any case.
_RESIZE_NUMBERS = (1, 2)


def for_tensorrt(graph: Path | bytes, half: bool, ranges: QuantizationRanges | None = None) -> bytes:
    """A graph from bytes to bytes, with its weights, for a strongly typed network.

    TensorRT has bytes as inputs that go into casts, and as outputs that come out of casts, and nowhere else:
    what moves bytes in between moves int32.

    Args:
        graph: an ONNX file, or a model in memory.
        half: whether floats become float16. Numbers that float16 lacks become the nearest that it has.
        ranges: what is computed in int8.

    Raises:
        EngineError: it has quantised operations, and half is asked for; or the ranges do not fit.
        ImportError: the library onnx is missing.
    """
    model = without_functions(graph)
    # What was inferred for other types.
    del model.graph.value_info[:]
    if ranges is not None:
        quantise(model.graph, ranges)
    _bytes_at_the_edges(model.graph)
    if half:
        _halve(model.graph)
    content: bytes = model.SerializeToString()
    return content


def _bytes_at_the_edges(graph: Any) -> None:
    from onnx import TensorProto, helper

    for node in _nodes(graph):
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.UINT8:
                    attribute.i = TensorProto.INT32
    first = []
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            inner = f"tensorrt/{value.name}"
            _rename(graph, value.name, inner)
            first.append(helper.make_node("Cast", [value.name], [inner], inner, to=TensorProto.FLOAT))
    last = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            inner = f"tensorrt/{value.name}"
            _rename(graph, value.name, inner)
            last.append(helper.make_node("Cast", [inner], [value.name], inner, to=TensorProto.UINT8))
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: Any, old: str, new: str) -> None:
    for node in _nodes(graph):
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def _nodes(graph: Any) -> Iterator[Any]:
    """A graph's nodes, and those of the graphs within them."""
    for inner in _graphs(graph):
        yield from inner.node


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _halve(graph: Any) -> None:
    quantised = next((node for node in _nodes(graph) if node.op_type in _QUANTISED), None)
    if quantised is not None:
        raise EngineError(
            f"the graph has quantised operations ({quantised.op_type} '{quantised.name}'), which are not put"
            " into fp16; take fp32"
        )
    for inner in _graphs(graph):
        _halve_one(inner)


def _halve_one(graph: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    floats = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    kept: list[Any] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.name in ("value_float", "value_floats") and node.op_type == "Constant":
                numbers = np.array(helper.get_attribute_value(attribute), np.float32)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(numbers)))
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                if node.op_type == "Constant":
                    floats[node.output[0]] = attribute.t
                else:
                    _halve_tensor(attribute.t)
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1, np.float16))
            node.attribute.append(helper.make_attribute("value", zero))
    nodes = []
    for node in graph.node:
        if node.op_type == "Resize":
            for index, name in enumerate(node.input):
                if index not in _RESIZE_NUMBERS or not name:
                    continue
                node.input[index] = f"{name}/float32"
                if name in floats:
                    if node.input[index] not in {tensor.name for tensor in kept}:
                        copy = numpy_helper.from_array(numpy_helper.to_array(floats[name]), node.input[index])
                        kept.append(copy)
                else:
                    # Whatever it is computed of: the same name may come from several of them.
                    node.input[index] = f"{name}/float32 of {node.output[0]}"
                    made = [node.input[index]]
                    nodes.append(helper.make_node("Cast", [name], made, made[0], to=TensorProto.FLOAT))
        nodes.append(node)
    for tensor in floats.values():
        _halve_tensor(tensor)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


def _halve_tensor(tensor: Any) -> None:
    from onnx import numpy_helper

    numbers = numpy_helper.to_array(tensor)
    limited = np.clip(numbers, -LARGEST_HALF, LARGEST_HALF)
    # A bound above 0 that keeps divisors from it must not become 0.
    vanishing = (limited != 0) & (np.abs(limited) < SMALLEST_HALF)
    limited = np.where(vanishing, np.copysign(SMALLEST_HALF, limited), limited)
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(limited, np.float16), name))
