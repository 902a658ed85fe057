"""From a network to the steps of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .calibration import _calibrate
from .dla import _devices
from .enums import _FLOATS, _TRT_TYPES
from .foundations import _Invalid, _need, _size
from .moving import IConcatenationLayer, IPaddingLayer, IResizeLayer, IShuffleLayer, ISliceLayer
from .network import INetworkDefinition
from .parsing import _onnx_plan
from .pointwise import IActivationLayer, IElementWiseLayer, IParametricReLULayer, IScaleLayer, IUnaryLayer
from .program import _Step
from .tensors import ILayer, ITensor
from .windows import IConvolutionLayer, IPoolingLayer

_POINTWISE = (IActivationLayer, IElementWiseLayer, IUnaryLayer, IScaleLayer, IParametricReLULayer)
_INT8_ABLE = (
    *_POINTWISE,
    IConvolutionLayer,
    IPoolingLayer,
    IConcatenationLayer,
    IShuffleLayer,
    ISliceLayer,
    IPaddingLayer,
    IResizeLayer,
)

if TYPE_CHECKING:
    from .building import IBuilderConfig


def _order(network: INetworkDefinition) -> list[ILayer]:
    """The layers that the outputs need, each behind those it needs."""
    done: dict[ILayer, None] = {}
    stack = [t._layer for t in network._outputs if t._layer is not None]
    while stack:
        layer = stack[-1]
        if layer in done:
            stack.pop()
            continue
        before = [
            t._layer
            for t in layer._inputs
            if t is not None and t._layer is not None and t._layer not in done and not _is_value(t)
        ]
        if before:
            stack += before
        else:
            done[layer] = None
            stack.pop()
    return list(done)


def _is_value(tensor: ITensor) -> Any:
    value = tensor._value()
    if isinstance(value, _Invalid):
        raise value
    return not value.is_meta


def _plan(network: INetworkDefinition, config: IBuilderConfig) -> dict[str, Any]:
    if network._onnx is not None:
        _need(config._pools, "the stand-in wants a limit of the workspace")
        return _onnx_plan(network._onnx)
    _need(network._outputs, "the network has no outputs")
    for layer in network._layers:
        # Also those that nothing needs are looked at.
        for output in layer._outputs:
            value = output._value()
            if isinstance(value, _Invalid):
                raise value
    names = [layer._name for layer in network._layers]
    repeated = next((n for n in names if names.count(n) > 1), None) if len(set(names)) != len(names) else None
    _need(repeated is None, f"Repeated layer name: {repeated} (layers must have distinct names)")
    for tensor in network._inputs:
        shapes = config._profiles[0]._shapes.get(tensor.name) if config._profiles else None
        size = tuple(_size(tensor._value()))
        _need(not shapes or all(s == size for s in shapes), f"profile {shapes} does not fit input {size}")
    order = _order(network)
    numbers: dict[ITensor, int] = {}
    for tensor in network._inputs:
        numbers[tensor] = len(numbers)
    for layer in order:
        for output in layer._outputs:
            numbers[output] = len(numbers)
    fp16, int8_ = config._has("FP16"), config._has("INT8")
    report = _devices(config, order, fp16, int8_)
    steps = []
    for layer in order:
        inputs = [
            None if t is None else numbers[t] if not _is_value(t) else t._value().numpy()
            for t in layer._inputs
        ]
        pointwise = isinstance(layer, _POINTWISE)
        quantized = []
        for output in layer._outputs:
            value = output._value()
            inner = pointwise and all(isinstance(c, _POINTWISE) for c in output._consumers)
            able = isinstance(layer, _INT8_ABLE) and any(isinstance(c, _INT8_ABLE) for c in output._consumers)
            quantized.append(value.dtype in _FLOATS and output not in network._outputs and able and not inner)
        steps.append(
            _Step(
                type(layer).__name__,
                layer._name,
                dict(layer._values),
                dict(layer._weights),
                dict(layer._output_type),
                inputs,
                [numbers[o] for o in layer._outputs],
                quantized,
            )
        )
    outputs = []
    for tensor in network._outputs:
        value = tensor._value()
        declared = tensor._declared
        _need(
            declared is None or declared == _TRT_TYPES[value.dtype] or value.dtype in _FLOATS,
            f"output {tensor.name} is {value.dtype}, not {declared}",
        )
        outputs.append(
            (tensor.name, numbers[tensor], tuple(_size(value)), declared or _TRT_TYPES[value.dtype])
        )
    plan = {
        "inputs": [
            (t.name, numbers[t], tuple(_size(t._value())), _TRT_TYPES[t._value().dtype])
            for t in network._inputs
        ],
        "outputs": outputs,
        "steps": steps,
        "precision": "int8" if int8_ else "fp16" if fp16 else "tf32" if config._has("TF32") else "fp32",
        "scales": {},
        "report": {**report, "layers": len(network._layers), "executed": len(order)},
    }
    if int8_:
        plan["scales"] = _calibrate(plan, config)
    return plan
