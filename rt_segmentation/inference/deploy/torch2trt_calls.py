"""The calls of PyTorch that torch2trt converts faithfully, as far as deploy graphs need them.

Read from torch2trt at `COMMIT`. Whatever is not here must not be in a deploy graph: of a call without a
converter torch2trt prints a line, and goes on with that call's result as a constant.
docs/torch2trt.md has the table for people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

COMMIT = "4e820ae31b4e35d59685935223b05b2e11d47b03"

PARAMETERS = (
    "module",
    "inputs",
    "input_names",
    "output_names",
    "log_level",
    "fp16_mode",
    "max_workspace_size",
    "strict_type_constraints",
    "keep_network",
    "int8_mode",
    "int8_calib_dataset",
    "int8_calib_algorithm",
    "use_onnx",
    "default_device_type",
    "dla_core",
    "gpu_fallback",
    "device_types",
    "min_shapes",
    "max_shapes",
    "opt_shapes",
    "onnx_opset",
    "max_batch_size",
    "avg_timing_iterations",
)
"""Of torch2trt(), in its order. It takes any other keyword as well, and drops it without a word."""

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call that is converted.

    Attributes:
        parameters: names of its positional arguments, as far as `problem` needs them.
        becomes: the TensorRT layers, or why nothing is needed.
        problem: says what is wrong with its arguments, or None.
    """

    parameters: tuple[str, ...]
    becomes: str
    problem: Callable[[Arguments], str | None] = lambda arguments: None


def _conv(a: Arguments) -> str | None:
    return "padding by name is taken for a number" if isinstance(a.get("padding"), str) else None


def _max_pool(a: Arguments) -> str | None:
    if a.get("return_indices"):
        return "the indices are lost"
    if a.get("dilation", 1) not in (1, (1, 1)):
        return "dilation is dropped"
    return "no stride is not taken for the kernel's size" if a.get("stride") is None else None


def _pad(a: Arguments) -> str | None:
    if len(a["pad"]) != 4:
        return "only the last two dimensions are padded, and four numbers are needed"
    if a.get("mode", "constant") != "constant" or a.get("value") not in (None, 0, 0.0):
        return "mode and value are dropped: the padding is always 0"
    return None


def _interpolate(a: Arguments) -> str | None:
    if a.get("mode", "nearest") == "nearest" or (a["mode"] == "bilinear" and a.get("align_corners")):
        return None
    return f"mode {a['mode']} with align_corners={a.get('align_corners')} is not proven to be the same"


def _average(a: Arguments) -> str | None:
    return None if a["output_size"] in (1, (1, 1)) else "an output that does not divide the input is rounded"


def _mean(a: Arguments) -> str | None:
    dims = a.get("dim")
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    return None if all(isinstance(d, int) and d >= 0 for d in dims) else "a dimension must be named from 0 up"


def _same_type(a: Arguments) -> str | None:
    tensors = [v for v in (a["input"], a["other"]) if isinstance(v, torch.Tensor)]
    if any(tensor.dtype != tensors[0].dtype for tensor in tensors):
        return "both sides must have one type"
    return None


def _max(a: Arguments) -> str | None:
    if not isinstance(a.get("other"), torch.Tensor):
        return "the maximum over a dimension loses its indices"
    return _same_type(a)


def _getitem(a: Arguments) -> str | None:
    if not isinstance(a["index"], tuple):
        return "the index must be a tuple"
    for item in a["index"]:
        if item is Ellipsis:
            continue
        if not isinstance(item, slice):
            return f"indexing with {type(item).__name__} is not among the calls looked at"
        if any(isinstance(v, int) and v < 0 for v in (item.start, item.stop, item.step)):
            return "a slice must count from the start"
    return None


_INPUT = ("input",)
_TWO = ("input", "other")

CONVERTED: dict[str, Call] = {
    "torch.nn.functional.conv2d": Call(
        ("input", "weight", "bias", "stride", "padding", "dilation"), "convolution", _conv
    ),
    "torch.nn.functional.max_pool2d": Call(
        ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        "pooling",
        _max_pool,
    ),
    "torch.nn.functional.batch_norm": Call(_INPUT, "scale, with the running statistics"),
    "torch.nn.functional.dropout2d": Call(_INPUT, "nothing: right in eval mode"),
    "torch.nn.functional.adaptive_avg_pool2d": Call(("input", "output_size"), "pooling", _average),
    "torch.nn.functional.relu": Call(_INPUT, "activation"),
    "torch.nn.functional.prelu": Call(_INPUT, "parametric relu, by a converter of ours"),
    "torch.nn.functional.pad": Call(("input", "pad", "mode", "value"), "padding", _pad),
    "torch.nn.functional.interpolate": Call(
        ("input", "size", "scale_factor", "mode", "align_corners"), "resize", _interpolate
    ),
    "torch.Tensor.add": Call(_TWO, "elementwise sum, of the operator +", _same_type),
    "torch.Tensor.sub": Call(_TWO, "elementwise difference, of the operator -", _same_type),
    "torch.Tensor.mul": Call(_TWO, "elementwise product, of the operator *", _same_type),
    "torch.max": Call(_TWO, "elementwise maximum", _max),
    "torch.clamp": Call(_INPUT, "elementwise maximum and minimum"),
    "torch.ceil": Call(_INPUT, "unary"),
    "torch.cat": Call(("tensors", "dim"), "concatenation"),
    "torch.Tensor.mean": Call(("input", "dim", "keepdim"), "reduction", _mean),
    "torch.Tensor.chunk": Call(_INPUT, "slices"),
    "torch.Tensor.reshape": Call(_INPUT, "shuffle"),
    "torch.Tensor.permute": Call(_INPUT, "shuffle"),
    "torch.Tensor.__getitem__": Call(("input", "index"), "slice", _getitem),
    "torch.Tensor.shape.__get__": Call(_INPUT, "shape, tracked by torch2trt"),
    "torch.Tensor.dim": Call(_INPUT, "a number that does not depend on the input"),
}


class _Recorder(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = resolve_name(func) or getattr(func, "__name__", str(func))
        call = CONVERTED.get(name)
        if call is None:
            self.problems.append(f"{name}: no converter of torch2trt is known to be faithful")
        else:
            problem = call.problem({**dict(zip(call.parameters, args)), **(kwargs or {})})
            if problem:
                self.problems.append(f"{name}: {problem}")
        return func(*args, **(kwargs or {}))


def unconvertible_calls(network: nn.Module, images: torch.Tensor) -> list[str]:
    """Run a network and say, once each, which of its calls torch2trt does not convert faithfully."""
    with torch.no_grad(), _Recorder() as recorder:
        network(images)
    return list(dict.fromkeys(recorder.problems))
