"""Runs the steps of an engine, in its precision."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import moving, pointwise, windows
from .foundations import _aten, _size, _to
from .tensors import ILayer

LAYERS: dict[str, type[ILayer]] = {
    kind.__name__: kind
    for module in (moving, pointwise, windows)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ILayer)
}


class _Step:
    """A layer in an engine."""

    def __init__(
        self,
        kind: str,
        name: str,
        values: Any,
        weights: Any,
        output_type: Any,
        inputs: Any,
        outputs: Any,
        quantized: Any,
    ) -> None:
        self.kind, self.name, self.values, self.weights = kind, name, values, weights
        self.output_type, self.inputs, self.outputs, self.quantized = output_type, inputs, outputs, quantized

    def layer(self) -> ILayer:
        made = object.__new__(LAYERS[self.kind])
        for key, value in (
            ("_values", self.values),
            ("_weights", self.weights),
            ("_output_type", self.output_type),
            ("_name", self.name),
        ):
            object.__setattr__(made, key, value)
        return made


def _tf32(x: torch.Tensor) -> torch.Tensor:
    """Ten bits of 23, rounded to nearest."""
    bits = _aten.view.dtype(_aten.contiguous(x), torch.int32)
    kept = _aten.bitwise_and(_aten.add(bits, 0x1000), ~0x1FFF)
    return _aten.view.dtype(kept, torch.float32)


def _half(x: torch.Tensor) -> torch.Tensor:
    return _to(_to(x, torch.float16), torch.float32)


def _round_to(x: torch.Tensor, scale: Any) -> torch.Tensor:
    return _aten.mul(_aten.clamp(_aten.round(_aten.div(x, scale)), -128, 127), scale)


class _Program:
    """Runs a plan's steps."""

    def __init__(self, plan: dict[str, Any], precision: str | None = None) -> None:
        self.plan, self.precision = plan, precision or plan["precision"]
        self.scales: dict[int, float] = plan["scales"] if self.precision == "int8" else {}
        self.int8 = os.environ.get("FAKE_TENSORRT_INT8", "fused")
        self.steps = []
        for step in plan["steps"]:
            weights = {name: torch.from_numpy(np.array(value)) for name, value in step.weights.items()}
            convolution = step.kind in ("IConvolutionLayer", "IDeconvolutionLayer")
            for name, value in weights.items():
                if value.dtype != torch.float32:
                    continue
                if convolution and name == "kernel":
                    weights[name] = self._kernel(value, step)
                elif self.precision in ("fp16", "int8"):
                    weights[name] = _half(value)
            inputs = [torch.from_numpy(i) if isinstance(i, np.ndarray) else i for i in step.inputs]
            self.steps.append((step, step.layer(), weights, inputs, convolution))
        last: dict[int, int] = {}
        for place, (_, _, _, inputs, _) in enumerate(self.steps):
            last.update((i, place) for i in inputs if isinstance(i, int))
        kept = {number for _, number, _, _ in plan["outputs"]}
        self.drop: dict[int, list[int]] = {}
        for number, place in last.items():
            if number not in kept:
                self.drop.setdefault(place, []).append(number)

    def _kernel(self, kernel: torch.Tensor, step: _Step) -> torch.Tensor:
        if self.precision == "tf32":
            return _tf32(kernel)
        if self.precision == "int8" and step.kind == "IConvolutionLayer":
            flat = _aten.reshape(kernel, [step.values["num_output_maps"], -1])
            scale = _aten.clamp(_aten.amax(_aten.abs(flat), [1], True), 1e-12) / 127
            return _aten.reshape(_round_to(flat, scale), list(_size(kernel)))
        return _half(kernel) if self.precision in ("fp16", "int8") else kernel

    def run(
        self, inputs: dict[str, torch.Tensor], watch: Callable[[int, torch.Tensor], None] | None = None
    ) -> list[torch.Tensor]:
        values: dict[int, torch.Tensor] = {}
        for name, number, _, _ in self.plan["inputs"]:
            values[number] = self._rounded(number, inputs[name], True)
            if watch:
                watch(number, values[number])
        for place, (step, layer, weights, inputs_, convolution) in enumerate(self.steps):
            x = [values[i] if isinstance(i, int) else i for i in inputs_]
            if convolution and self.precision == "tf32":
                x = [_tf32(x[0])]
            if convolution and self.precision == "int8" and self.int8 == "conv" and inputs_[0] in self.scales:
                x = [_round_to(x[0], self.scales[inputs_[0]])]
            found = layer._compute(x, weights)
            outputs = found if isinstance(found, list) else [found]
            for number, value, quantized in zip(step.outputs, outputs, step.quantized):
                values[number] = self._rounded(number, value, quantized)
                if watch and value.dtype == torch.float32:
                    watch(number, values[number])
            for number in self.drop.get(place, ()):
                del values[number]
        return [values[number] for _, number, _, _ in self.plan["outputs"]]

    def _rounded(self, number: int, value: torch.Tensor, quantized: Any) -> torch.Tensor:
        if value.dtype != torch.float32 or self.precision in ("fp32", "tf32"):
            return value
        rounded = self.int8 == "all" or (self.int8 == "fused" and quantized)
        if self.precision == "int8" and number in self.scales and rounded:
            return _round_to(value, self.scales[number])
        return _half(value)
