"""Tensors and layers of a network; shapes are inferred by running layers on meta tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .enums import _FLOATS, _INTS, _TRT_TYPES, DataType, LayerType, TensorLocation
from .foundations import _MAX_DIMS, Dims, _aten, _ints, _Invalid, _need, _size, _tolist


class ITensor:
    """An input of the network, or a layer's output."""

    def __init__(self, network: Any, layer: Any, name: str) -> None:
        self._network, self._layer = network, layer
        self._consumers: list[Any] = []
        self._cache: Any = None
        self._declared: Any = None
        self.name = name
        self.location = TensorLocation.DEVICE

    def __setattr__(self, key: str, value: Any) -> None:
        if not key.startswith("_") and key not in (
            "name",
            "shape",
            "dtype",
            "location",
            "allowed_formats",
            "dynamic_range",
        ):
            raise AttributeError(f"'ITensor' object has no attribute '{key}'")
        object.__setattr__(self, key, value)

    def _value(self) -> Any:
        self._network._resolve(self)
        return self._cache

    @property
    def shape(self) -> Dims:
        value = self._value()
        return Dims((), False) if isinstance(value, _Invalid) else Dims(list(_size(value)))

    @property
    def dtype(self) -> Any:
        value = self._value()
        return DataType.FLOAT if isinstance(value, _Invalid) else _TRT_TYPES[value.dtype]

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self._declared = value

    @property
    def is_network_input(self) -> Any:
        return self._layer is None

    @property
    def is_network_output(self) -> Any:
        return self in self._network._outputs

    @property
    def is_shape_tensor(self) -> Any:
        value = self._value()
        return isinstance(value, torch.Tensor) and value.dtype in _INTS and not value.is_meta


def _attribute(name: str, convert: Callable[[Any], Any] = lambda value: value) -> property:
    def get(self: Any) -> Any:
        return self._values[name]

    def put(self: Any, value: Any) -> None:
        self._values[name] = convert(value)
        self._changed()

    return property(get, put)


def _dims(values: Any) -> tuple[int, ...]:
    return tuple(_ints(values))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


class ILayer:
    """A layer: `_compute` does its work, on meta tensors when shapes are inferred and on real ones later."""

    _kind = LayerType.IDENTITY
    _num_outputs = 1
    _weight_names: tuple[str, ...] = ()

    def __init__(self, network: Any, inputs: list[ITensor], **values: Any) -> None:
        for tensor in inputs:
            if not isinstance(tensor, ITensor):
                raise TypeError(f"incompatible function arguments: {type(tensor).__name__} is no ITensor")
        self._network = network
        self._number = len(network._layers)
        self._values = values
        self._name = f"(Unnamed Layer* {self._number}) [{self._kind.name.title()}]"
        self._inputs: list[ITensor | None] = []
        self._outputs = [
            ITensor(network, self, f"{self._name}_output{i or ''}") for i in range(self._num_outputs)
        ]
        self._weights: dict[str, np.ndarray] = {}
        self._precision: Any = None
        self._output_type: dict[int, Any] = {}
        network._layers.append(self)
        for index, tensor in enumerate(inputs):
            self._connect(index, tensor)

    def __setattr__(self, key: str, value: Any) -> None:
        if not key.startswith("_"):
            found = getattr(type(self), key, None)
            if not isinstance(found, property):
                raise AttributeError(f"'{type(self).__name__}' object has no attribute '{key}'")
            if found.fset is None:
                raise AttributeError(f"property '{key}' of '{type(self).__name__}' object has no setter")
        object.__setattr__(self, key, value)

    name = property(
        lambda self: self._name, lambda self, value: object.__setattr__(self, "_name", str(value))
    )
    type = property(lambda self: self._kind)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: self._num_outputs)
    precision = property(
        lambda self: self._precision, lambda self, value: object.__setattr__(self, "_precision", value)
    )

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._output_type[index] = dtype
        self._changed()

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if index < self._num_outputs else None

    def get_input(self, index: int) -> ITensor | None:
        return self._inputs[index] if index < len(self._inputs) else None

    def set_input(self, index: int, tensor: ITensor) -> None:
        if not isinstance(tensor, ITensor):
            raise TypeError(f"incompatible function arguments: {tensor!r} is no ITensor")
        self._connect(index, tensor)

    def _connect(self, index: int, tensor: ITensor) -> None:
        while len(self._inputs) <= index:
            self._inputs.append(None)
        self._inputs[index] = tensor
        tensor._consumers.append(self)
        self._changed()

    def _changed(self) -> None:
        stack = [self]
        while stack:
            layer = stack.pop()
            for output in layer._outputs:
                if output._cache is not None or layer is self:
                    output._cache = None
                    stack.extend(output._consumers)

    def _infer(self, values: list[Any]) -> list[Any]:
        """Outputs without their values, but for those of integers that are known."""
        found = self._compute(values, {name: _meta(torch.from_numpy(w)) for name, w in self._weights.items()})
        outputs = found if isinstance(found, list) else [found]
        for output in outputs:
            _need(output.dim() <= _MAX_DIMS, f"{output.dim()} dimensions, at most {_MAX_DIMS}")
        return outputs

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        raise NotImplementedError


def _meta(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_meta else _aten.empty.memory_format(list(_size(x)), dtype=x.dtype, device="meta")


def _together(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """All with values, or all without."""
    return [_meta(t) for t in tensors] if any(t.is_meta for t in tensors) else list(tensors)


def _known(value: Any, what: str) -> list[int]:
    _need(value.dtype in _INTS, f"{what} is {value.dtype}, it must be an integer")
    _need(value.dim() == 1, f"{what} has {value.dim()} dimensions, a shape tensor has 1")
    _need(not value.is_meta, f"{what} is not known when the engine is built")
    return [int(v) for v in _tolist(value)]


def _float(x: torch.Tensor, what: str) -> None:
    _need(x.dtype in _FLOATS, f"{what} takes floats, not {x.dtype}")
