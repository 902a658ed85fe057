"""A network's body on its way through torch2trt: arguments, our converters, frames for int8's ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.engines.tensorrt_builds import WORKSPACE_BYTES, set_up


class CalibrationBatches:
    """What torch2trt's calibrator asks for, batch by batch, always in the same memory on the GPU.

    The calibrator passes on addresses and keeps no reference; TensorRT has read a batch when it asks for the
    next one.

    Args:
        frames: uint8 (height, width, 3) RGB, one or more.
        normalise: from uint8 (N, height, width, 3) to what the network's body takes.
        batch: frames of a batch; the last frames are left out where they do not fill one, but for the first.

    Attributes:
        error: what went wrong meanwhile; TensorRT would go on with the batches before.
    """

    def __init__(
        self, frames: Sequence[np.ndarray], normalise: Callable[[torch.Tensor], torch.Tensor], batch: int
    ) -> None:
        self._frames = frames
        self._normalise = normalise
        self._batch = batch
        self._memory: torch.Tensor | None = None
        self.error: Exception | None = None

    def __len__(self) -> int:
        return max(len(self._frames) // self._batch, 1)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return [self._on_gpu(index)]
        except Exception as error:
            self.error = error
            raise

    def _on_gpu(self, index: int) -> torch.Tensor:
        first = index * self._batch
        chosen = [self._frames[i % len(self._frames)] for i in range(first, first + self._batch)]
        images = self._normalise(torch.from_numpy(np.stack(chosen)))
        if self._memory is None:
            self._memory = torch.empty(images.shape, dtype=torch.float32, device="cuda")
        self._memory.copy_(images)
        # What is read by address must be there.
        torch.cuda.synchronize()
        return self._memory


class Conversion(nn.Module):
    """A body, whose builder torch2trt gives to whoever asks while it runs it.

    Args:
        body: on the GPU.
        torch2trt: the library.
        tensorrt: the library.
        precision: 'fp32', 'fp16' or 'int8'.
        what: what is built, for the log.
    """

    def __init__(self, body: nn.Module, torch2trt: Any, tensorrt: Any, precision: str, what: str) -> None:
        super().__init__()
        self.body = body
        self._torch2trt, self._tensorrt = torch2trt, tensorrt
        self._precision = precision
        self._what = what

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the body, and set up the builder where there is one."""
        context = self._torch2trt.get_conversion_context()
        if context is not None:
            set_up(context.builder_config, self._tensorrt, self._precision, self._what)
        out: torch.Tensor = self.body(images)
        return out


def conversion_arguments(
    tensorrt: Any,
    module: nn.Module,
    images: torch.Tensor,
    precision: str,
    dla: int | None,
    calibration: CalibrationBatches | None,
) -> dict[str, Any]:
    """The keywords of torch2trt(), which swallows those that it does not know: a test checks them.

    Args:
        tensorrt: the library.
        module: what is converted.
        images: an input of the right shape, on the GPU.
        precision: 'fp32', 'fp16' or 'int8', the last with fp16 where that is faster.
        dla: number of the accelerator; what it cannot run falls back to the GPU.
        calibration: the inputs that int8's ranges come from.
    """
    arguments = {
        "module": module,
        "inputs": [images],
        "log_level": tensorrt.Logger.WARNING,
        "max_workspace_size": WORKSPACE_BYTES,
        "keep_network": False,
        "fp16_mode": precision != "fp32",
        "int8_mode": precision == "int8",
    }
    if precision == "int8":
        arguments["int8_calib_dataset"] = calibration
        # By itself torch2trt compares versions as texts and takes the old one from 10 on, which no DLA takes.
        arguments["int8_calib_algorithm"] = tensorrt.CalibrationAlgoType.ENTROPY_CALIBRATION_2
    if dla is not None:
        arguments |= {
            "default_device_type": tensorrt.DeviceType.DLA,
            "dla_core": dla,
            "gpu_fallback": True,
        }
    return arguments


def register_converters(torch2trt: Any) -> None:
    """Our converters in the places of torch2trt's.

    Its own for F.pad calls what TensorRT 10 has no longer, and pads with zeros whatever is asked. Its own for
    F.prelu makes seven layers, half of which no DLA runs.
    """
    torch2trt.tensorrt_converter("torch.nn.functional.pad")(_convert_pad)
    torch2trt.tensorrt_converter("torch.nn.functional.prelu")(_convert_prelu)


def _convert_pad(context: Any) -> None:
    images = _argument(context, "input", 0)
    pad = tuple(int(number) for number in _argument(context, "pad", 1))
    mode, value = _argument(context, "mode", 2, "constant"), _argument(context, "value", 3)
    if len(pad) != 4 or mode != "constant" or value not in (None, 0):
        raise EngineError(
            f"F.pad with {len(pad)} numbers, mode '{mode}' and value {value} is not converted: TensorRT pads"
            " the last two dimensions with zeros"
        )
    left, right, top, bottom = pad
    layer = context.network.add_padding_nd(images._trt, (top, left), (bottom, right))
    context.method_return._trt = layer.get_output(0)


def _convert_prelu(context: Any) -> None:
    images, slopes = _argument(context, "input", 0), _argument(context, "weight", 1)
    # One slope a channel, or one for all.
    shape = (1, slopes.numel(), *([1] * (images.dim() - 2)))
    values = slopes.detach().cpu().numpy().reshape(shape)
    constant = context.network.add_constant(shape, values).get_output(0)
    layer = context.network.add_parametric_relu(images._trt, constant)
    context.method_return._trt = layer.get_output(0)


def _argument(context: Any, name: str, position: int, default: Any = None) -> Any:
    if name in context.method_kwargs:
        return context.method_kwargs[name]
    return context.method_args[position] if position < len(context.method_args) else default
