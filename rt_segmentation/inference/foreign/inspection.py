"""What an ONNX file says of itself: whether it can be used, what it takes, how its outputs are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.foreign.graph import opset_of
from rt_segmentation.models import ModelError

LARGEST_BYTES = 2**31 - 1
"""A larger file cannot have its weights within."""

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operations that ONNX Runtime has; other ones need a library of their authors'."""

# They change neither what numbers mean nor which are largest.
_PASSING = {
    "Cast", "Crop", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Resize", "Slice", "Squeeze",
    "Transpose", "Unsqueeze", "Upsample",
}  # fmt: skip
_MEANINGS: dict[str, Meaning] = {
    "Softmax": "probabilities",
    "Sigmoid": "probabilities",
    "ArgMax": "labels",
    "TopK": "labels",
}

Meaning = Literal["logits", "probabilities", "labels"]


@dataclass(frozen=True)
class Foreign:
    """An ONNX file.

    Attributes:
        path: of the file.
        data: the graph with all its weights.
        opset: of ONNX's own operations.
        input: name of the only input that is no weight.
        dims: of that input; None for each that is not fixed.
        meanings: what the graph's last operations say of each output, by its name.
        classes: between how many an output of labels chose, by its name; without those that do not say it.
        parameters: how many numbers its weights are.
    """

    path: Path
    data: bytes
    opset: int
    input: str
    dims: tuple[int | None, ...]
    meanings: dict[str, Meaning]
    classes: dict[str, int]
    parameters: int


def read_onnx(path: Path) -> Foreign:
    """Read an ONNX file, with the weights that lie in files beside it.

    Raises:
        ModelError: the library onnx is missing; or the file is missing, damaged or too new, or has operations
            of its authors' own, or not one input for images. The message says which.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            f"to import an ONNX file needs the Python package '{error.name or 'onnx'}': pip install onnx"
        ) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelError(f"ONNX file {path} cannot be read: {error.strerror}") from error
    except Exception as error:
        # protobuf's parsers have exceptions of their own.
        raise ModelError(f"{path} is no ONNX file, or is truncated") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(
            f"{path} is no ONNX file, or is truncated: its graph has no operations or no outputs"
        )
    _check_versions(path, model)
    _check_domains(path, model)
    _check_branches(path, model)
    _merge_external(path, model)
    data: bytes = model.SerializeToString()
    try:
        onnx.checker.check_model(data)
    except Exception as error:
        # The checker's native code raises what it likes.
        raise ModelError(f"ONNX file {path} is damaged: {reason(error)}") from error
    name, dims = _image_input(path, model)
    meanings = {output.name: _meaning(model.graph, output) for output in model.graph.output}
    return Foreign(path, data, opset_of(model), name, dims, meanings, _classes(model), _parameters(model))


def _check_versions(path: Path, model: Any) -> None:
    import onnx

    known = onnx.defs.onnx_opset_version()
    if opset_of(model) > known:
        raise ModelError(
            f"ONNX file {path} is of opset {opset_of(model)}, and the library onnx {onnx.__version__} knows"
            f" up to {known}: export it with opset 17, or install newer onnx and onnxruntime"
        )
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"ONNX file {path} has IR version {model.ir_version}, and the library onnx {onnx.__version__}"
            f" knows up to {onnx.IR_VERSION}: install newer onnx and onnxruntime"
        )


def _check_domains(path: Path, model: Any) -> None:
    known = {*DOMAINS, *(function.domain for function in model.functions)}
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in _nodes(model.graph) if n.domain not in known})
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ModelError(
            f"ONNX file {path} has operations that are not ONNX's: {foreign[0]}{more}; export it without them"
        )


def _check_branches(path: Path, model: Any) -> None:
    """Branches and loops use what is made outside of them, of which ONNX's own tools lose some."""
    branching = sorted(
        {
            node.op_type
            for node in _nodes(model.graph)
            for attribute in node.attribute
            if attribute.HasField("g") or attribute.graphs
        }
    )
    if branching:
        raise ModelError(
            f"ONNX file {path} has branches or loops ({', '.join(branching)}), which cannot be imported;"
            " export it for a fixed size, or simplify it (onnxsim), so that none are left"
        )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _merge_external(path: Path, model: Any) -> None:
    from onnx import external_data_helper

    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        # Files that are missing, short or outside the folder raise different things in each version.
        raise ModelError(
            f"weights of ONNX file {path} that lie in other files cannot be read: {reason(error)}"
        ) from error
    for tensor in (one for one in model.graph.initializer if one.HasField("raw_data")):
        try:
            wanted = _bytes_of(tensor)
        except KeyError as error:
            raise ModelError(
                f"ONNX file {path} is damaged, or newer than the library onnx: weights '{tensor.name}' are of"
                f" type {tensor.data_type}, which is none"
            ) from error
        if len(tensor.raw_data) != wanted:
            raise ModelError(
                f"ONNX file {path} is damaged, or the file of its weights truncated: '{tensor.name}' has"
                f" {len(tensor.raw_data)} bytes of {wanted}"
            )
    if model.ByteSize() > LARGEST_BYTES:
        raise ModelError(
            f"ONNX file {path} has {model.ByteSize() / 2**30:.1f} GiB of weights; 2 GiB are possible"
        )


def _bytes_of(tensor: Any) -> int:
    from onnx import TensorProto, helper

    count = int(np.prod(tuple(tensor.dims), dtype=np.int64))
    four_bit = {getattr(TensorProto, name, None) for name in ("INT4", "UINT4", "FLOAT4E2M1")}
    if tensor.data_type in four_bit:
        return (count + 1) // 2
    two_bit = {getattr(TensorProto, name, None) for name in ("INT2", "UINT2")}
    if tensor.data_type in two_bit:
        return (count + 3) // 4
    return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _image_input(path: Path, model: Any) -> tuple[str, tuple[int | None, ...]]:
    from onnx import TensorProto

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(f"'{value.name}'" for value in inputs) or "none"
        raise ModelError(f"ONNX file {path} has {len(inputs)} inputs ({names}); it must have one, for images")
    (value,) = inputs
    kind = value.type.tensor_type
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8):
        raise ModelError(
            f"input '{value.name}' of ONNX file {path} takes"
            f" {TensorProto.DataType.Name(kind.elem_type).lower()}; images are float32, float16 or uint8"
        )
    dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    dims = tuple(None if d is not None and d <= 0 else d for d in dims)
    if len(dims) != 4:
        raise ModelError(
            f"input '{value.name}' of ONNX file {path} has {len(dims)} axes; images have 4, as (N, 3, H, W)"
        )
    return value.name, dims


def _meaning(graph: Any, output: Any) -> Meaning:
    """What the operations before an output say; of an output of integers, that it has labels."""
    from onnx import TensorProto

    if output.type.tensor_type.elem_type in (
        TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16,
    ):  # fmt: skip
        return "labels"
    node, result = _maker(graph, output.name)
    # Of the two that it gives, the largest number itself is no label.
    if node is None or (node.op_type == "TopK" and result == node.output[0]):
        return "logits"
    return _MEANINGS.get(node.op_type, "logits")


def _maker(graph: Any, name: str) -> tuple[Any, str]:
    """The last operation that means something before an output, and its result; None for the input."""
    makers = {result: node for node in graph.node for result in node.output}
    while (node := makers.get(name)) is not None and node.op_type in _PASSING:
        name = node.input[0]
    return node, name


def _classes(model: Any) -> dict[str, int]:
    """Sizes of the axes whose largest number each output of labels names, as far as the file tells them."""
    from onnx import shape_inference

    choosing = {output.name: _maker(model.graph, output.name)[0] for output in model.graph.output}
    choosing = {n: node for n, node in choosing.items() if node and node.op_type in ("ArgMax", "TopK")}
    if not choosing:
        return {}
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:
        # What the library's native code raises is of many types.
        return {}
    shapes = {v.name: v.type.tensor_type.shape.dim for v in (*graph.input, *graph.value_info, *graph.output)}
    found = {}
    for name, node in choosing.items():
        usual = 0 if node.op_type == "ArgMax" else -1
        axis = next((a.i for a in node.attribute if a.name == "axis"), usual)
        dims = shapes.get(node.input[0], ())
        if -len(dims) <= axis < len(dims) and dims[axis].dim_value > 0:
            found[name] = int(dims[axis].dim_value)
    return found


def _parameters(model: Any) -> int:
    """Numbers of all weights that are no shapes or indices."""
    from onnx import TensorProto

    whole = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return int(
        sum(
            np.prod(tuple(tensor.dims), dtype=np.int64)
            for tensor in model.graph.initializer
            if tensor.data_type not in whole
        )
    )


def count_gmacs(data: bytes, name: str, dims: tuple[int, ...]) -> float:
    """1e9 multiply-accumulates of convolutions and matrix products for an input of this shape.

    0 where the library cannot tell the shape of one of them.
    """
    import onnx
    from onnx import helper, shape_inference

    model = onnx.load_model_from_string(data)
    for index, value in enumerate(model.graph.input):
        if value.name == name:
            fixed = helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, dims)
            model.graph.input[index].CopyFrom(fixed)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            continue
        found = [shapes.get(n, ()) for n in (node.input[0], node.input[1], node.output[0])]
        if not all(shape and min(shape) > 0 for shape in found):
            return 0.0
        source, weight, made = (int(np.prod(shape, dtype=np.int64)) for shape in found)
        if node.op_type == "Conv":
            total += made * weight // found[1][0]
        elif node.op_type == "ConvTranspose":
            total += source * weight // found[1][0]
        else:
            total += made * found[0][-1]
    return total / 1e9
