"""The parser of ONNX graphs, and engines of them, which ONNX Runtime executes.

What it checks is what the parser's documents say of types: bytes are inputs that go into casts alone, and
outputs that come out of casts. Types are the graph's: networks must be strongly typed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .enums import DataType, NetworkDefinitionCreationFlag
from .foundations import _size
from .network import INetworkDefinition

NEWEST_OPSET = 20
_UNKNOWN = {"Unique", "NonZeroElements", "Bernoulli", "BitShift", "Compress", "ConvInteger", "QLinearConv"}


class ParserError:
    """What the parser does not take."""

    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def __str__(self) -> str:
        return f"In node 0 with name: and operator: (parse): UNSUPPORTED_NODE: {self._text}"


class OnnxParser:
    """Fills a network with a graph."""

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> Any:
        import onnx

        problem = self._problem(onnx.load_model_from_string(model))
        if problem is not None:
            self._errors.append(ParserError(problem))
            return False
        self._network._onnx = bytes(model)
        return True

    def _problem(self, model: Any) -> str | None:
        from onnx import TensorProto, shape_inference

        if not self._network._flags & 1 << int(NetworkDefinitionCreationFlag["STRONGLY_TYPED"]):
            return "the stand-in parses into strongly typed networks alone"
        opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        if opset > NEWEST_OPSET:
            return f"opset {opset}, at most {NEWEST_OPSET}"
        try:
            graph = shape_inference.infer_shapes(
                model, check_type=True, strict_mode=True, data_prop=True
            ).graph
        except Exception as error:
            return str(error)
        ends = {value.name for value in (*graph.input, *graph.output)}
        for value in graph.value_info:
            if value.type.tensor_type.elem_type == TensorProto.UINT8 and value.name not in ends:
                return f"UINT8 is only supported as network input or output: {value.name}"
        inputs = {value.name for value in graph.input}
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            if node.op_type in _UNKNOWN or node.domain not in ("", "ai.onnx"):
                return f"no importer registered for op: {node.op_type}"
            if node.op_type != "Cast" and inputs & set(node.input):
                return f"input of UINT8 goes into {node.op_type} and not into a cast"
            if node.op_type != "Cast" and outputs & set(node.output):
                return f"output of UINT8 comes out of {node.op_type} and not out of a cast"
        return None


def _onnx_plan(model: bytes) -> dict[str, Any]:
    import onnx

    graph = onnx.load_model_from_string(model).graph

    inputs = []
    for number, value in enumerate(graph.input):
        kind = value.type.tensor_type
        assert kind.elem_type == onnx.TensorProto.UINT8
        inputs.append((value.name, number, tuple(d.dim_value for d in kind.shape.dim), DataType.UINT8))
    # Shapes of outputs are inferred, whatever the graph says of them.
    plan = {"onnx": model, "inputs": inputs}
    tried = _ONNXProgram(plan).run(
        {name: torch.zeros(shape, dtype=torch.uint8) for name, _, shape, _ in inputs}
    )
    outputs = [
        (value.name, number, tuple(_size(array)), DataType.UINT8)
        for number, (value, array) in enumerate(zip(graph.output, tried))
    ]
    return {**plan, "outputs": outputs}


class _ONNXProgram:
    def __init__(self, plan: dict[str, Any]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(plan["onnx"], options, ["CPUExecutionProvider"])

    def run(self, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        given = {name: np.array(value.numpy()) for name, value in inputs.items()}
        return [torch.from_numpy(array) for array in self._session.run(None, given)]
