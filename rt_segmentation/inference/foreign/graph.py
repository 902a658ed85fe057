"""A graph of somebody else's in the middle of one of ours: bytes in, labels and confidence out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.models import ModelError, ModelManifest, ONNXInterface

PREFIX = "foreign/"
"""Before all names of the graph, so that none is one of ours."""

OLDEST_OPSET = 11
"""The first with the enlarging that is needed; older graphs are converted."""

_CONVERTED = 17
_AXES_ARE_INPUTS = {"ReduceSum": 13, "Unsqueeze": 13, "ReduceMax": 18}
_CHANNEL_AXIS = {"nchw": 1, "nhwc": 3}


def wrap(
    data: bytes,
    manifest: ModelManifest,
    shape: tuple[int, int, int],
    input_name: str,
    output_names: Sequence[str],
) -> bytes:
    """Put what a manifest says around an ONNX graph.

    Args:
        data: the graph, with its weights.
        manifest: says how it is used.
        shape: of the frames: how many of a batch, their height and width [px].
        input_name: of the result's input, uint8 (N, H, W, 3) RGB.
        output_names: of the result's labels, uint8 (N, H, W), and of the top class's probability x 255, the
            same; a graph that gives labels alone has no second one.

    Returns:
        The new graph, with its weights.

    Raises:
        ModelError: the graph is of an old opset and cannot be converted.
    """
    import onnx
    from onnx import TensorProto, compose, helper, shape_inference

    interface = manifest.onnx
    assert interface is not None
    batch, height, width = shape
    padded = tuple(side + -side % interface.multiple for side in (height, width))
    model = _modern(onnx.load_model_from_string(data), manifest.name)
    model = compose.add_prefix(model, PREFIX, inplace=True, rename_functions=False)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    (images,) = [value for value in graph.input if value.name == PREFIX + interface.input]
    # Graphs of before 2019 declare weights as inputs too.
    others = [value for value in graph.input if value.name not in weights and value is not images]
    assert not others, "checked when it was imported"
    outer = _Builder(model)
    outer.before(interface, manifest, images, (height, width), padded, input_name)

    sides = {"nchw": (batch, 3, *padded), "nhwc": (batch, *padded, 3)}[interface.layout]
    fixed = helper.make_tensor_value_info(images.name, images.type.tensor_type.elem_type, sides)
    frames = helper.make_tensor_value_info(input_name, TensorProto.UINT8, (batch, height, width, 3))
    (output,) = [value for value in graph.output if value.name == PREFIX + interface.output]
    output_type = output.type.tensor_type.elem_type
    # What was inferred for other sizes.
    del graph.value_info[:], graph.output[:], graph.input[:]
    graph.input.append(fixed)
    graph.output.append(helper.make_tensor_value_info(output.name, output_type, None))
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph.output[0].type.tensor_type
    dims = tuple(d.dim_value for d in inferred.shape.dim) if inferred.HasField("shape") else ()
    del graph.input[:], graph.output[:]
    graph.input.append(frames)
    made = outer.after(
        interface,
        len(manifest.labels().classes),
        batch,
        (height, width),
        padded,
        output,
        dims,
        manifest.temperature,
    )
    for name, value in zip(output_names, made):
        outer.node("Identity", [value], name)
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, (batch, height, width)))
    outer.finish()
    content: bytes = model.SerializeToString()
    return content


def _modern(model: Any, name: str) -> Any:
    from onnx import version_converter

    if opset_of(model) >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, _CONVERTED)
    except Exception as error:
        # The converter's native code raises what it likes.
        raise ModelError(
            f"the ONNX graph of model '{name}' is of opset {opset_of(model)} and cannot be converted to"
            f" {_CONVERTED}: {reason(error)};"
            f" export it with opset {OLDEST_OPSET} or later"
        ) from error


def opset_of(model: Any) -> int:
    """Of ONNX's own operations."""
    return max((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


class _Builder:
    """Adds nodes before and behind those of a graph."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._opset = opset_of(model)
        self._first: list[Any] = []
        self._last: list[Any] = []
        self._into = self._first
        self._count = 0

    def before(
        self,
        interface: ONNXInterface,
        manifest: ModelManifest,
        images: Any,
        size: tuple[int, int],
        padded: tuple[int, ...],
        name: str,
    ) -> None:
        """From bytes to the graph's input."""
        from onnx import TensorProto

        axis = _CHANNEL_AXIS[interface.layout]
        std = np.array(manifest.std, np.float64)
        scale, shift = 1 / (255 * std), -np.array(manifest.mean, np.float64) / std
        sides = [1, 1, 1, 1]
        sides[axis] = 3
        value = name
        if interface.layout == "nchw":
            value = self.node("Transpose", [value], perm=[0, 3, 1, 2])
        value = self.node("Cast", [value], to=TensorProto.FLOAT)
        value = self.node("Mul", [value, self.constant(scale.astype(np.float32).reshape(sides))])
        value = self.node("Add", [value, self.constant(shift.astype(np.float32).reshape(sides))])
        if interface.order == "bgr":
            value = self.node("Gather", [value, self.constant(np.array([2, 1, 0], np.int64))], axis=axis)
        if padded != size:
            ends = [0, 0, 0, 0]
            first = 2 if interface.layout == "nchw" else 1
            ends[first : first + 2] = [p - s for p, s in zip(padded, size)]
            value = self.node("Pad", [value, self.constant(np.array([0, 0, 0, 0, *ends], np.int64))])
        wanted = images.type.tensor_type.elem_type
        if wanted == TensorProto.UINT8:
            value = self.node("Round", [value])
        self.node("Cast", [value], images.name, to=wanted)

    def after(
        self,
        interface: ONNXInterface,
        classes: int,
        batch: int,
        size: tuple[int, int],
        padded: tuple[int, ...],
        output: Any,
        dims: tuple[int, ...],
        temperature: float,
    ) -> list[str]:
        """From the graph's output to labels, and to confidence if it has one; gives their names."""
        from onnx import TensorProto

        self._into = self._last
        value = output.name
        if interface.output_layout == "nhwc":
            value = self.node("Transpose", [value], perm=[0, 3, 1, 2])
            dims = tuple(dims[i] for i in (0, 3, 1, 2)) if dims else ()
        elif interface.output_layout == "nhw":
            value = self.reduced("Unsqueeze", value, 1)
            dims = (dims[0], 1, *dims[1:]) if dims else ()
        if output.type.tensor_type.elem_type != TensorProto.FLOAT:
            value = self.node("Cast", [value], to=TensorProto.FLOAT)
        are_labels = interface.gives == "labels"
        if dims[2:] != padded:
            sizes = self.constant(np.array([batch, 1 if are_labels else classes, *padded], np.int64))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            if not are_labels:
                corners = "align_corners" if interface.align_corners else "half_pixel"
                how = {"mode": "linear", "coordinate_transformation_mode": corners}
            # In opset 11 an input that is not used must be there, empty.
            empty = self.constant(np.zeros(0, np.float32))
            value = self.node("Resize", [value, empty, empty, sizes], **how)
        if padded != size:
            ends = [self.constant(np.array(numbers, np.int64)) for numbers in ([0, 0], size, [2, 3])]
            value = self.node("Slice", [value, *ends])
        if are_labels:
            shape = self.constant(np.array([batch, *size], np.int64))
            return [self.node("Cast", [self.node("Reshape", [value, shape])], to=TensorProto.UINT8)]
        labels = self.node("ArgMax", [value], axis=1, keepdims=0)
        top = self.reduced("ReduceMax", value, 1, keepdims=int(interface.gives == "logits"))
        if interface.gives == "logits":
            below_top = self.node("Sub", [value, top])
            if temperature != 1:
                below_top = self.node(
                    "Mul", [below_top, self.constant(np.array(1 / temperature, np.float32))]
                )
            rest = self.node("Exp", [below_top])
            top = self.node("Reciprocal", [self.reduced("ReduceSum", rest, 1, keepdims=0)])
        top = self.node("Round", [self.node("Mul", [top, self.constant(np.array(255, np.float32))])])
        return [self.node("Cast", [name], to=TensorProto.UINT8) for name in (labels, top)]

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; gives the name of its output."""
        from onnx import helper

        output = output or self._name()
        self._into.append(helper.make_node(kind, list(inputs), [output], name=self._name(), **attributes))
        return output

    def reduced(self, kind: str, value: str, axis: int, **attributes: Any) -> str:
        """Add a node with an axis, which has become an input in the course of time."""
        if self._opset >= _AXES_ARE_INPUTS[kind]:
            return self.node(kind, [value, self.constant(np.array([axis], np.int64))], **attributes)
        return self.node(kind, [value], axes=[axis], **attributes)

    def constant(self, array: np.ndarray) -> str:
        """Add numbers; gives their name."""
        from onnx import numpy_helper

        name = self._name()
        self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def finish(self) -> None:
        """Put the nodes where they belong: each behind those whose results it reads."""
        nodes = [*self._first, *self._model.graph.node, *self._last]
        del self._model.graph.node[:]
        self._model.graph.node.extend(nodes)
        # Weights need not be inputs from here on.
        self._model.ir_version = max(self._model.ir_version, 6)

    def _name(self) -> str:
        self._count += 1
        return f"around/{self._count}"
