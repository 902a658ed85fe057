"""What a DLA can run, after the list in the developer guide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .enums import (
    _FLOATS,
    DLA_CORES,
    BuilderFlag,
    CalibrationAlgoType,
    DeviceType,
    InterpolationMode,
    ResizeCoordinateTransformation,
)
from .foundations import _Invalid, _need, _size
from .moving import IConcatenationLayer, IConstantLayer, IResizeLayer, IShuffleLayer, ISliceLayer
from .pointwise import IActivationLayer, IElementWiseLayer, IParametricReLULayer, IScaleLayer, IUnaryLayer
from .tensors import ILayer
from .windows import IConvolutionLayer, IDeconvolutionLayer, IPoolingLayer

if TYPE_CHECKING:
    from .building import IBuilderConfig


def _dla_problem(layer: ILayer) -> str | None:
    """Why a DLA cannot run a layer, after the list in TensorRT's developer guide (DLA supported layers)."""
    v = layer._values
    value = layer._outputs[0]._value()
    if isinstance(value, _Invalid) or value.dtype not in _FLOATS or value.dim() != 4:
        return "not four dimensions of floats"
    if isinstance(layer, IDeconvolutionLayer):
        fits = v["num_groups"] == 1 and set(v["dilation_nd"]) == {1} and not any(v["pre_padding"])
        return None if fits else "deconvolution with padding, groups or dilation"
    if isinstance(layer, IConvolutionLayer):
        fits = max(v["kernel_size_nd"]) <= 32 and max(v["stride_nd"]) <= 8 and max(v["dilation_nd"]) <= 32
        return None if fits and max(v["pre_padding"]) <= 31 else "convolution beyond the limits"
    if isinstance(layer, IPoolingLayer):
        return (
            None if max(v["window_size_nd"]) <= 8 and max(v["pre_padding"]) <= 7 else "pooling window above 8"
        )
    if isinstance(layer, IActivationLayer):
        known = v["type"].name in ("RELU", "SIGMOID", "TANH", "CLIP", "LEAKY_RELU")
        return None if known else "activation"
    if isinstance(layer, IElementWiseLayer):
        known = v["op"].name in ("SUM", "SUB", "PROD", "MAX", "MIN", "DIV", "POW", "EQUAL", "GREATER", "LESS")
        constant = any(isinstance(i._layer, IConstantLayer) for i in layer._inputs if i is not None)
        return None if known and not constant else "elementwise operation"
    if isinstance(layer, IUnaryLayer):
        return None if v["op"].name in ("ABS", "SIN", "COS", "ATAN") else f"unary {v['op'].name}"
    if isinstance(layer, IConcatenationLayer):
        return None if v["axis"] == 1 else "concatenation along another axis than the channels"
    if isinstance(layer, IResizeLayer):
        scales = [b / a for a, b in zip(_size(layer._inputs[0]._value())[2:], _size(value)[2:])]
        whole = all(s == int(s) and 1 <= s <= 32 for s in scales)
        nearest = v["resize_mode"] == InterpolationMode.NEAREST and whole
        half = v["coordinate_transformation"] == ResizeCoordinateTransformation.HALF_PIXEL
        return None if nearest or (half and whole and max(scales) <= 4) else "resize"
    if isinstance(layer, (IScaleLayer, IParametricReLULayer)):
        return None
    if isinstance(layer, ISliceLayer):
        return None if len(layer._inputs) == 1 else "slice with its places as tensors"
    if isinstance(layer, IShuffleLayer):
        return None if len(layer._inputs) == 1 and value.dim() == 4 else "shuffle with its shape as a tensor"
    return f"{layer._kind.name.lower()} layer"


def _devices(config: IBuilderConfig, order: list[ILayer], fp16: Any, int8_: Any) -> dict[str, Any]:
    wanted = [layer for layer in order if config.get_device_type(layer) == DeviceType.DLA]
    if not wanted:
        return {}
    _need(0 <= config.DLA_core < DLA_CORES, f"DLA core {config.DLA_core}: there are {DLA_CORES}")
    _need(fp16 or int8_, "DLA has neither fp32: FP16 or INT8 must be set")
    problems: dict[str, int] = {}
    on_dla = []
    for layer in wanted:
        problem = _dla_problem(layer)
        if problem is None:
            on_dla.append(layer)
        else:
            problems[problem] = problems.get(problem, 0) + 1
    _need(
        config.get_flag(BuilderFlag.GPU_FALLBACK) or not problems,
        f"layers are not supported on DLA and GPU fallback is not enabled: {problems}",
    )
    if int8_ and config.int8_calibrator is not None:
        algorithm = config.int8_calibrator.get_algorithm()
        _need(
            algorithm == CalibrationAlgoType.ENTROPY_CALIBRATION_2,
            f"DLA needs IInt8EntropyCalibrator2 (per tensor scaling), the calibrator is {algorithm.name}",
        )
    # Connected pieces, each a loadable.
    group: dict[ILayer, ILayer] = {layer: layer for layer in on_dla}

    def root(layer: ILayer) -> ILayer:
        while group[layer] is not layer:
            layer = group[layer]
        return layer

    for layer in on_dla:
        for tensor in layer._inputs:
            if tensor is not None and tensor._layer in group:
                group[root(tensor._layer)] = root(layer)
    return {
        "on_dla": len(on_dla),
        "on_gpu": len(order) - len(on_dla),
        "why": problems,
        "pieces": len({root(layer) for layer in on_dla}),
    }
