"""A network of layers."""

from __future__ import annotations

from typing import Any

from .enums import (
    _TORCH_TYPES,
    LEVEL,
    DataType,
    InterpolationMode,
    ResizeCoordinateTransformation,
    ResizeRoundMode,
    ResizeSelector,
    SampleMode,
)
from .foundations import _aten, _error, _ints, _Invalid, _weights
from .moving import (
    IConcatenationLayer,
    IConstantLayer,
    IPaddingLayer,
    IReduceLayer,
    IResizeLayer,
    IShapeLayer,
    IShuffleLayer,
    ISliceLayer,
)
from .pointwise import IActivationLayer, IElementWiseLayer, IParametricReLULayer, IScaleLayer, IUnaryLayer
from .tensors import ILayer, ITensor, _dims
from .windows import _PADDING, IConvolutionLayer, IDeconvolutionLayer, IPoolingLayer


class INetworkDefinition:
    """Layers and tensors; shapes are inferred when somebody asks."""

    def __init__(self, flags: int) -> None:
        self._layers: list[ILayer] = []
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._flags = flags
        self._onnx: bytes | None = None
        self.name = ""

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]

    def _resolve(self, tensor: ITensor) -> None:
        stack = [tensor]
        while stack:
            layer = stack[-1]._layer
            if stack[-1]._cache is not None:
                stack.pop()
                continue
            missing = [i for i in layer._inputs if i is not None and i._cache is None]
            if missing:
                stack += missing
                continue
            values = [None if i is None else i._cache for i in layer._inputs]
            bad = next((v for v in values if isinstance(v, _Invalid)), None)
            try:
                found = [bad] * layer._num_outputs if bad else layer._infer(values)
            except _Invalid as error:
                _error(f"ITensor::getDimensions: Error Code 4: Internal Error ({error})")
                found = [error] * layer._num_outputs
            for output, value in zip(layer._outputs, found):
                output._cache = value

    def add_input(self, name: str, dtype: Any, shape: Any) -> ITensor | None:
        if dtype == DataType.UINT8 and LEVEL < 9:
            _error("UINT8 inputs are not supported")
        tensor = ITensor(self, None, name)
        tensor._cache = _aten.empty.memory_format(_ints(shape), dtype=_TORCH_TYPES[dtype], device="meta")
        self._inputs.append(tensor)
        return tensor

    def mark_output(self, tensor: ITensor) -> None:
        self._outputs.append(tensor)

    def add_convolution_nd(
        self, input: ITensor, num_output_maps: int, kernel_shape: Any, kernel: Any, bias: Any = None
    ) -> Any:
        return self._convolution(IConvolutionLayer, input, num_output_maps, kernel_shape, kernel, bias)

    def add_deconvolution_nd(
        self, input: ITensor, num_output_maps: int, kernel_shape: Any, kernel: Any, bias: Any = None
    ) -> Any:
        return self._convolution(IDeconvolutionLayer, input, num_output_maps, kernel_shape, kernel, bias)

    def _convolution(self, kind: Any, input: ITensor, maps: int, shape: Any, kernel: Any, bias: Any) -> Any:
        layer = kind(
            self,
            [input],
            num_output_maps=int(maps),
            kernel_size_nd=_dims(shape),
            stride_nd=(1, 1),
            dilation_nd=(1, 1),
            num_groups=1,
            **_PADDING,
        )
        layer._weights = {"kernel": _weights(kernel), "bias": _weights(bias)}
        return layer

    def add_pooling_nd(self, input: ITensor, type: Any, window_size: Any) -> Any:
        window = _dims(window_size)
        return IPoolingLayer(
            self,
            [input],
            type=type,
            window_size_nd=window,
            stride_nd=window,
            average_count_excludes_padding=True,
            blend_factor=0.0,
            **_PADDING,
        )

    def add_activation(self, input: ITensor, type: Any) -> Any:
        return IActivationLayer(self, [input], type=type, alpha=0.0, beta=0.0)

    def add_elementwise(self, input1: ITensor, input2: ITensor, op: Any) -> Any:
        return IElementWiseLayer(self, [input1, input2], op=op)

    def add_unary(self, input: ITensor, op: Any) -> Any:
        return IUnaryLayer(self, [input], op=op)

    def add_scale(
        self, input: ITensor, mode: Any, shift: Any = None, scale: Any = None, power: Any = None
    ) -> Any:
        return self.add_scale_nd(input, mode, shift, scale, power, 1)

    def add_scale_nd(
        self,
        input: ITensor,
        mode: Any,
        shift: Any = None,
        scale: Any = None,
        power: Any = None,
        channel_axis: int = 0,
    ) -> Any:
        layer = IScaleLayer(self, [input], mode=mode, channel_axis=channel_axis)
        layer._weights = {"scale": _weights(scale), "shift": _weights(shift), "power": _weights(power)}
        return layer

    def add_concatenation(self, inputs: list[ITensor]) -> Any:
        return IConcatenationLayer(self, list(inputs), axis=None)

    def add_shuffle(self, input: ITensor) -> Any:
        return IShuffleLayer(
            self,
            [input],
            first_transpose=None,
            reshape_dims=None,
            second_transpose=None,
            zero_is_placeholder=True,
        )

    def add_slice(self, input: ITensor, start: Any, shape: Any, stride: Any) -> Any:
        return ISliceLayer(
            self,
            [input],
            start=_dims(start),
            shape=_dims(shape),
            stride=_dims(stride),
            mode=SampleMode.STRICT_BOUNDS,
        )

    def add_padding_nd(self, input: ITensor, pre_padding: Any, post_padding: Any) -> Any:
        return IPaddingLayer(
            self, [input], pre_padding_nd=_dims(pre_padding), post_padding_nd=_dims(post_padding)
        )

    def add_resize(self, input: ITensor) -> Any:
        return IResizeLayer(
            self,
            [input],
            shape=(),
            scales=(),
            resize_mode=InterpolationMode.NEAREST,
            coordinate_transformation=ResizeCoordinateTransformation.ASYMMETRIC,
            selector_for_single_pixel=ResizeSelector.FORMULA,
            nearest_rounding=ResizeRoundMode.FLOOR,
            exclude_outside=False,
            cubic_coeff=-0.75,
        )

    def add_reduce(self, input: ITensor, op: Any, axes: int, keep_dims: Any) -> Any:
        return IReduceLayer(self, [input], op=op, axes=int(axes), keep_dims=keep_dims)

    def add_shape(self, input: ITensor) -> Any:
        return IShapeLayer(self, [input])

    def add_constant(self, shape: Any, weights: Any) -> Any:
        layer = IConstantLayer(self, [], shape=_dims(shape))
        layer._weights = {"weights": _weights(weights)}
        layer._changed()
        return layer

    def add_parametric_relu(self, input: ITensor, slopes: ITensor) -> Any:
        return IParametricReLULayer(self, [input, slopes])

    if LEVEL < 10:

        def add_padding(self, input: ITensor, pre_padding: Any, post_padding: Any) -> Any:
            return self.add_padding_nd(input, pre_padding, post_padding)
