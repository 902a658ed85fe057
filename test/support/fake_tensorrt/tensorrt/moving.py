"""Layers that move values, and those that reduce them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .enums import (
    _FLOATS,
    _INTS,
    LEVEL,
    InterpolationMode,
    LayerType,
    ResizeCoordinateTransformation,
    ResizeRoundMode,
    SampleMode,
)
from .foundations import _aten, _Invalid, _need, _size, _to, volume
from .tensors import ILayer, _attribute, _dims, _float, _floats, _known, _meta, _together


class IConcatenationLayer(ILayer):
    _kind = LayerType.CONCATENATION
    axis = _attribute("axis", int)

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        rank = x[0].dim()
        axis = max(0, rank - 3) if self._values["axis"] is None else self._values["axis"]
        for other in x[1:]:
            _need(other.dtype == x[0].dtype, f"{self._name}: concatenation of {x[0].dtype} and {other.dtype}")
            _need(other.dim() == rank, f"{self._name}: concatenation of {rank} and {other.dim()} dimensions")
            _need(
                all(m == n or i == axis for i, (m, n) in enumerate(zip(_size(x[0]), _size(other)))),
                f"{self._name}: all concatenate input tensors must have the same dimensions except on the"
                f" concatenation axis ({axis}): {list(_size(x[0]))} and {list(_size(other))}",
            )
        _need(0 <= axis < rank, f"{self._name}: axis {axis} of {rank} dimensions")
        return _aten.cat(_together(*x), axis)


class IShuffleLayer(ILayer):
    _kind = LayerType.SHUFFLE
    first_transpose = _attribute("first_transpose", _dims)
    reshape_dims = _attribute("reshape_dims", _dims)
    second_transpose = _attribute("second_transpose", _dims)
    zero_is_placeholder = _attribute("zero_is_placeholder")

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        out = x[0]
        if v["first_transpose"] is not None:
            out = self._permuted(out, v["first_transpose"])
        wanted = v["reshape_dims"]
        if len(x) > 1:
            wanted = _known(x[1], "the shape of a shuffle")
        if wanted is not None:
            if v["zero_is_placeholder"]:
                wanted = [int(_size(out)[i]) if d == 0 else d for i, d in enumerate(wanted)]
            _need(list(wanted).count(-1) <= 1, f"a shuffle to {list(wanted)}")
            count = volume(_size(out))
            fixed = volume(d for d in wanted if d != -1)
            _need(
                fixed == count or (-1 in wanted and fixed and count % fixed == 0),
                f"{self._name}: reshape changes volume: {list(_size(out))} to {list(wanted)}",
            )
            out = _aten.reshape(out, list(wanted))
        if v["second_transpose"] is not None:
            out = self._permuted(out, v["second_transpose"])
        return out

    def _permuted(self, x: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
        _need(
            sorted(order) == list(range(x.dim())),
            f"{self._name}: {order} is no order of {x.dim()} dimensions",
        )
        return _aten.permute(x, list(order))


class ISliceLayer(ILayer):
    _kind = LayerType.SLICE
    start = _attribute("start", _dims)
    shape = _attribute("shape", _dims)
    stride = _attribute("stride", _dims)
    mode = _attribute("mode")

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        out = x[0]
        given = [v["start"], v["shape"], v["stride"]]
        for index, name in enumerate(("start", "size", "stride"), 1):
            if len(x) > index and x[index] is not None:
                given[index - 1] = tuple(_known(x[index], f"the {name} of a slice"))
        start, shape, stride = given
        _need(
            len(start) == len(shape) == len(stride) == out.dim(),
            f"{self._name}: start {start}, size {shape} and stride {stride} for {out.dim()} dimensions",
        )
        for axis, (begin, size, step) in enumerate(zip(start, shape, stride)):
            length = int(_size(out)[axis])
            if v["mode"] == SampleMode.WRAP:
                places = torch.tensor([(begin + i * step) % length for i in range(size)], device=out.device)
                out = _aten.index_select(out, axis, places)
                continue
            _need(v["mode"] == SampleMode.STRICT_BOUNDS, "a slice of another mode is not in this stand-in")
            last = begin + (size - 1) * step
            _need(
                size >= 0 and (size == 0 or (0 <= begin < length and 0 <= last < length)),
                f"{self._name}: out of bounds slice, input dimensions {list(_size(x[0]))}, start {start},"
                f" size {shape}, stride {stride}",
            )
            if step > 0:
                out = _aten.slice(out, axis, begin, last + 1, step)
            elif step == 0:
                lengths = list(_size(out))
                lengths[axis] = size
                out = _aten.expand(_aten.slice(out, axis, begin, begin + 1, 1), lengths)
            else:
                raise _Invalid("a slice backwards is not in this stand-in")
        return out


class IPaddingLayer(ILayer):
    _kind = LayerType.PADDING
    pre_padding_nd = _attribute("pre_padding_nd", _dims)
    post_padding_nd = _attribute("post_padding_nd", _dims)

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        pre, post = self._values["pre_padding_nd"], self._values["post_padding_nd"]
        _need(len(pre) == len(post) == 2, f"{self._name}: only 2D padding is supported")
        _need(x[0].dim() >= 4, f"{self._name}: padding of {x[0].dim()} dimensions")
        _float(x[0], "padding")
        return _aten.constant_pad_nd(x[0], [pre[1], post[1], pre[0], post[0]], 0.0)


class IResizeLayer(ILayer):
    _kind = LayerType.RESIZE
    shape = _attribute("shape", _dims)
    scales = _attribute("scales", _floats)
    resize_mode = _attribute("resize_mode")
    coordinate_transformation = _attribute("coordinate_transformation")
    selector_for_single_pixel = _attribute("selector_for_single_pixel")
    nearest_rounding = _attribute("nearest_rounding")
    exclude_outside = _attribute("exclude_outside")
    cubic_coeff = _attribute("cubic_coeff", float)

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        image = x[0]
        _float(image, "resize")
        size = list(_size(image))
        if len(x) > 1:
            wanted = _known(x[1], "the shape of a resize")
        elif v["shape"]:
            wanted = list(v["shape"])
        else:
            _need(len(v["scales"]) == image.dim(), f"{self._name}: {len(v['scales'])} scales")
            wanted = [int(s * d) for s, d in zip(v["scales"], size)]
        _need(len(wanted) == len(size), f"{self._name}: resize of {len(size)} to {len(wanted)} dimensions")
        _need(wanted[:-2] == size[:-2], f"{self._name}: only the last two dimensions are resized here")
        mode, transform = v["resize_mode"], v["coordinate_transformation"]
        if mode == InterpolationMode.LINEAR and transform == ResizeCoordinateTransformation.ALIGN_CORNERS:
            return _aten.upsample_bilinear2d(image, wanted[-2:], True)
        if mode == InterpolationMode.LINEAR and transform == ResizeCoordinateTransformation.HALF_PIXEL:
            return _aten.upsample_bilinear2d(image, wanted[-2:], False)
        if mode == InterpolationMode.CUBIC and transform == ResizeCoordinateTransformation.HALF_PIXEL:
            return _aten.upsample_bicubic2d(image, wanted[-2:], False)
        _need(mode == InterpolationMode.NEAREST, "this resize is not in this stand-in")
        for axis in (image.dim() - 2, image.dim() - 1):
            if wanted[axis] != size[axis]:
                places = self._places(size[axis], wanted[axis])
                image = _aten.index_select(image, axis, torch.tensor(places, device=image.device))
        return image

    def _places(self, length: int, wanted: int) -> list[int]:
        transform, rounding = self._values["coordinate_transformation"], self._values["nearest_rounding"]
        rounds = {
            ResizeRoundMode.FLOOR: np.floor,
            ResizeRoundMode.CEIL: np.ceil,
            ResizeRoundMode.HALF_UP: lambda p: np.floor(p + 0.5),
            ResizeRoundMode.HALF_DOWN: lambda p: np.ceil(p - 0.5),
        }
        i = np.arange(wanted, dtype=np.float64)
        if transform == ResizeCoordinateTransformation.ALIGN_CORNERS:
            p = i * (length - 1) / max(wanted - 1, 1)
        elif transform == ResizeCoordinateTransformation.HALF_PIXEL:
            p = (i + 0.5) * length / wanted - 0.5
        else:
            p = i * length / wanted
        return [int(v) for v in np.clip(rounds[rounding](p), 0, length - 1)]


class IReduceLayer(ILayer):
    _kind = LayerType.REDUCE
    op = _attribute("op")
    axes = _attribute("axes", int)
    keep_dims = _attribute("keep_dims")

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        v = self._values
        name = v["op"].name
        _need(
            x[0].dtype in (*_FLOATS, *_INTS) and (name != "AVG" or x[0].dtype in _FLOATS),
            f"reduce of {x[0].dtype}",
        )
        axes = [i for i in range(x[0].dim()) if v["axes"] >> i & 1]
        _need(
            axes and v["axes"] >> x[0].dim() == 0,
            f"{self._name}: axes {v['axes']:b} of {x[0].dim()} dimensions",
        )
        keep = v["keep_dims"]
        if name == "AVG":
            return _aten.mean(x[0], axes, keep)
        if name == "SUM":
            return _to(_aten.sum(x[0], axes, keep), x[0].dtype)
        if name in ("MAX", "MIN"):
            return (_aten.amax if name == "MAX" else _aten.amin)(x[0], axes, keep)
        out = x[0]
        for axis in reversed(axes):
            out = _aten.prod(out, axis, keep)
        return out


class IShapeLayer(ILayer):
    _kind = LayerType.SHAPE

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        return torch.tensor(list(_size(x[0])), dtype=torch.int64 if LEVEL >= 10 else torch.int32)


class IConstantLayer(ILayer):
    _kind = LayerType.CONSTANT
    shape = _attribute("shape", _dims)

    def _infer(self, values: list[Any]) -> list[Any]:
        weights, shape = self._weights["weights"], self._values["shape"]
        _need(
            weights.size == volume(shape),
            f"{self._name}: {weights.size} weights for a constant of {list(shape)}",
        )
        value = _aten.reshape(torch.from_numpy(weights), list(shape))
        return [value if value.dtype in _INTS else _meta(value)]

    def _compute(self, x: list[Any], w: dict[str, torch.Tensor]) -> Any:
        return _aten.reshape(w["weights"], list(self._values["shape"]))
