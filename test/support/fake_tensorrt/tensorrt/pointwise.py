"""Layers that work on each value by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .enums import _FLOATS, LayerType, ScaleMode
from .foundations import _aten, _need, _size, volume
from .tensors import ILayer, _attribute, _float, _together

_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "RELU": lambda x, a, b: _aten.relu(x),
    "SIGMOID": lambda x, a, b: _aten.sigmoid(x),
    "TANH": lambda x, a, b: _aten.tanh(x),
    "LEAKY_RELU": lambda x, a, b: _aten.leaky_relu(x, a),
    "ELU": lambda x, a, b: _aten.elu(x, a),
    "SELU": lambda x, a, b: _aten.mul(_aten.elu(x, a), b),
    "SOFTSIGN": lambda x, a, b: _aten.div(x, _aten.add(_aten.abs(x), 1)),
    "SOFTPLUS": lambda x, a, b: _aten.mul(_aten.log1p(_aten.exp(_aten.mul(x, b))), a),
    "CLIP": lambda x, a, b: _aten.clamp(x, a, b),
}


class IActivationLayer(ILayer):
    _kind = LayerType.ACTIVATION
    type = _attribute("type")
    alpha = _attribute("alpha", float)
    beta = _attribute("beta", float)

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        _float(x[0], "activation")
        v = self._values
        return _ACTIVATIONS[v["type"].name](x[0], v["alpha"], v["beta"])


_ELEMENTWISE = {
    "SUM": _aten.add.Tensor,
    "PROD": _aten.mul.Tensor,
    "MAX": _aten.maximum,
    "MIN": _aten.minimum,
    "SUB": _aten.sub.Tensor,
    "POW": _aten.pow.Tensor_Tensor,
    "AND": _aten.logical_and,
    "OR": _aten.logical_or,
    "XOR": _aten.logical_xor,
    "EQUAL": _aten.eq.Tensor,
    "GREATER": _aten.gt.Tensor,
    "LESS": _aten.lt.Tensor,
}


class IElementWiseLayer(ILayer):
    _kind = LayerType.ELEMENTWISE
    op = _attribute("op")

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        name = self._values["op"].name
        a, b = x
        _need(a.dtype == b.dtype, f"{self._name}: elementwise {name} of {a.dtype} and {b.dtype}")
        _need(a.dim() == b.dim(), f"{self._name}: elementwise {name} of {a.dim()} and {b.dim()} dimensions")
        _need(
            all(m == n or 1 in (m, n) for m, n in zip(_size(a), _size(b))),
            f"{self._name}: elementwise {name} of {list(_size(a))} and {list(_size(b))} does not broadcast",
        )
        logic = name in ("AND", "OR", "XOR")
        _need(logic == (a.dtype == torch.bool) or name == "EQUAL", f"elementwise {name} of {a.dtype}")
        a, b = _together(a, b)
        if name == "DIV":
            return _aten.div(a, b) if a.dtype in _FLOATS else _aten.div(a, b, rounding_mode="trunc")
        if name == "FLOOR_DIV":
            return _aten.div(a, b, rounding_mode="floor")
        return _ELEMENTWISE[name](a, b)


_UNARY = {
    "EXP": _aten.exp,
    "LOG": _aten.log,
    "SQRT": _aten.sqrt,
    "RECIP": _aten.reciprocal,
    "ABS": _aten.abs,
    "NEG": _aten.neg,
    "SIN": _aten.sin,
    "COS": _aten.cos,
    "TAN": _aten.tan,
    "SINH": _aten.sinh,
    "COSH": _aten.cosh,
    "ASIN": _aten.asin,
    "ACOS": _aten.acos,
    "ATAN": _aten.atan,
    "CEIL": _aten.ceil,
    "FLOOR": _aten.floor,
    "ERF": _aten.erf,
    "NOT": _aten.logical_not,
    "SIGN": _aten.sign,
    "ROUND": _aten.round,
}


class IUnaryLayer(ILayer):
    _kind = LayerType.UNARY
    op = _attribute("op")

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        name = self._values["op"].name
        if name == "NOT":
            _need(x[0].dtype == torch.bool, f"unary NOT of {x[0].dtype}")
        elif name in ("ABS", "NEG", "SIGN"):
            _need(x[0].dtype != torch.bool, f"unary {name} of {x[0].dtype}")
        else:
            _float(x[0], f"unary {name}")
        return _UNARY[name](x[0])


class IScaleLayer(ILayer):
    _kind = LayerType.SCALE
    mode = _attribute("mode")
    channel_axis = _attribute("channel_axis", int)

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        (image,) = x
        _float(image, "scale")
        v = self._values
        shape = [1] * image.dim()
        axis = v["channel_axis"]
        if v["mode"] == ScaleMode.CHANNEL:
            shape[axis] = int(_size(image)[axis])
        elif v["mode"] == ScaleMode.ELEMENTWISE:
            shape[axis:] = list(_size(image))[axis:]
        for name, weight in w.items():
            _need(
                weight.numel() in (0, volume(shape)),
                f"{self._name}: {name} weights has count {weight.numel()} but {volume(shape)} was expected",
            )
        out = image
        if w["scale"].numel():
            out = _aten.mul(out, _aten.reshape(w["scale"], shape))
        if w["shift"].numel():
            out = _aten.add(out, _aten.reshape(w["shift"], shape))
        if w["power"].numel() and not (self._weights["power"] == 1).all():
            out = _aten.pow(out, _aten.reshape(w["power"], shape))
        return out


class IParametricReLULayer(ILayer):
    _kind = LayerType.PARAMETRIC_RELU

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        a, slopes = _together(*x)
        return _aten.where(_aten.lt(a, 0), _aten.mul(a, slopes), a)
