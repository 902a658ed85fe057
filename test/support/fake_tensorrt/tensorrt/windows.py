"""Layers that move a window: convolution, deconvolution, pooling."""

from __future__ import annotations

from typing import Any

import torch

from .enums import LayerType, PaddingMode, PoolingType
from .foundations import Dims, _aten, _Invalid, _need, _size, volume
from .tensors import ILayer, _attribute, _dims, _float


def _window(
    size: int, kernel: int, stride: int, dilation: int, pre: int, post: int, mode: Any
) -> tuple[int, int]:
    """Output's size, and what has to be added at the end so that it comes out by flooring."""
    extent = dilation * (kernel - 1) + 1
    if mode in (PaddingMode.SAME_UPPER, PaddingMode.SAME_LOWER):
        raise _Invalid("SAME padding is not in this stand-in")
    span = size + pre + post - extent
    _need(span >= 0, f"a window of {extent} is larger than the padded input of {size + pre + post}")
    out = (-(-span // stride) if mode == PaddingMode.EXPLICIT_ROUND_UP else span // stride) + 1
    return out, (out - 1) * stride + extent - size - pre


class _Windowed(ILayer):
    stride_nd = _attribute("stride_nd", _dims)
    pre_padding = _attribute("pre_padding", _dims)
    post_padding = _attribute("post_padding", _dims)
    padding_mode = _attribute("padding_mode")

    @property
    def padding_nd(self) -> Any:
        return Dims(self._values["pre_padding"])

    @padding_nd.setter
    def padding_nd(self, value: Any) -> None:
        self._values["pre_padding"] = self._values["post_padding"] = _dims(value)
        self._changed()

    def _padded(self, x: torch.Tensor, kernel: Any, dilation: Any, fill: float) -> torch.Tensor:
        v = self._values
        for name in ("stride_nd", "pre_padding", "post_padding"):
            _need(len(v[name]) == len(kernel), f"{name} has {len(v[name])} numbers, the kernel {len(kernel)}")
        pads: list[int] = []
        for axis in reversed(range(len(kernel))):
            _, after = _window(
                int(_size(x)[2 + axis]),
                kernel[axis],
                v["stride_nd"][axis],
                dilation[axis],
                v["pre_padding"][axis],
                v["post_padding"][axis],
                v["padding_mode"],
            )
            pads += [v["pre_padding"][axis], after]
        return _aten.constant_pad_nd(x, pads, fill) if any(pads) else x


_PADDING = {"pre_padding": (0, 0), "post_padding": (0, 0), "padding_mode": PaddingMode.EXPLICIT_ROUND_DOWN}


class IConvolutionLayer(_Windowed):
    _kind = LayerType.CONVOLUTION
    num_output_maps = _attribute("num_output_maps", int)
    kernel_size_nd = _attribute("kernel_size_nd", _dims)
    dilation_nd = _attribute("dilation_nd", _dims)
    num_groups = _attribute("num_groups", int)

    def _checked(self, x: torch.Tensor, count: int, what: str) -> None:
        v = self._values
        _float(x, what)
        _need(x.dim() == 2 + len(v["kernel_size_nd"]), f"{what}: an input of {x.dim()} dimensions")
        _need(
            self._weights["kernel"].size == count,
            f"{self._name}: kernel weights has count {self._weights['kernel'].size} but {count} was expected",
        )
        bias = self._weights.get("bias")
        _need(
            bias is None or bias.size in (0, v["num_output_maps"]),
            f"{self._name}: bias weights has another count than {v['num_output_maps']} output maps",
        )

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        (image,) = x
        maps, groups, kernel = v["num_output_maps"], v["num_groups"], v["kernel_size_nd"]
        channels = int(_size(image)[1])
        self._checked(image, channels // groups * maps * volume(kernel), "convolution")
        weight = _aten.reshape(w["kernel"], [maps, channels // groups, *kernel])
        bias = w.get("bias")
        padded = self._padded(image, kernel, v["dilation_nd"], 0.0)
        zero = [0] * len(kernel)
        return _aten.convolution(
            padded,
            weight,
            bias if bias is not None and bias.numel() else None,
            list(v["stride_nd"]),
            zero,
            list(v["dilation_nd"]),
            False,
            zero,
            groups,
        )


class IDeconvolutionLayer(IConvolutionLayer):
    _kind = LayerType.DECONVOLUTION

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        (image,) = x
        maps, groups, kernel = v["num_output_maps"], v["num_groups"], v["kernel_size_nd"]
        channels = int(_size(image)[1])
        self._checked(image, channels * maps // groups * volume(kernel), "deconvolution")
        weight = _aten.reshape(w["kernel"], [channels, maps // groups, *kernel])
        bias = w.get("bias")
        zero = [0] * len(kernel)
        out = _aten.convolution(
            image,
            weight,
            bias if bias is not None and bias.numel() else None,
            list(v["stride_nd"]),
            zero,
            list(v["dilation_nd"]),
            True,
            zero,
            groups,
        )
        crop = [-p for pair in zip(reversed(v["pre_padding"]), reversed(v["post_padding"])) for p in pair]
        return _aten.constant_pad_nd(out, crop, 0.0) if any(crop) else out


class IPoolingLayer(_Windowed):
    _kind = LayerType.POOLING
    type = _attribute("type")
    window_size_nd = _attribute("window_size_nd", _dims)
    average_count_excludes_padding = _attribute("average_count_excludes_padding")
    blend_factor = _attribute("blend_factor")

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        (image,) = x
        _float(image, "pooling")
        kernel, stride = list(v["window_size_nd"]), list(v["stride_nd"])
        _need(image.dim() == 2 + len(kernel), f"pooling: an input of {image.dim()} dimensions")
        if v["type"] == PoolingType.MAX:
            padded = self._padded(image, kernel, (1, 1), float("-inf"))
            return _aten.max_pool2d_with_indices(padded, kernel, stride)[0]
        _need(v["type"] == PoolingType.AVERAGE, "pooling of another kind is not in this stand-in")
        padded = self._padded(image, kernel, (1, 1), 0.0)
        total = _aten.avg_pool2d(padded, kernel, stride, [0, 0], False, True, 1)
        if not v["average_count_excludes_padding"]:
            return _aten.div(total, volume(kernel))
        count = _aten.avg_pool2d(
            self._padded(_aten.ones_like(image), kernel, (1, 1), 0.0), kernel, stride, [0, 0], False, True, 1
        )
        return _aten.div(total, count)
