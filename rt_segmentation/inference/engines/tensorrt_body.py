"""Runs a serialized TensorRT engine in the place of a network's body, and raises where TensorRT refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.engines.tensorrt_builds import load_engine

INPUT, OUTPUT = "input_0", "output_0"
"""Names of an engine's tensors, as torch2trt gives them."""


class TensorRTBody(Body):
    """A network's body that TensorRT executes.

    The engine reads and writes two buffers that stay where they are: what a CUDA graph has recorded of an
    execution context must not be changed any more, and several graphs may record the same one. They may not
    run at the same time.

    Args:
        body: the one that it stands for; how its coarse values are spread is taken from there. Its weights
            are let go.
        serialized: the engine, of fixed shapes, with one input `INPUT` and one output `OUTPUT` in float32.
        dla: number of the accelerator that the engine was built for, or None.

    Attributes:
        sha256: of the engine.

    Raises:
        EngineError: TensorRT refuses the engine, or something of what is needed to run it.
    """

    def __init__(self, body: Body, serialized: bytes, dla: int | None) -> None:
        super().__init__()
        import tensorrt

        self.sha256 = hashlib.sha256(serialized).hexdigest()
        self.phases = body.phases
        # Its parameters also hold what torch2trt hung on them while it converted them.
        self._spread = body.to_empty(device="meta").spread
        # An engine needs its runtime for as long as it lives.
        self._runtime, self._engine, self._context = load_engine(serialized, tensorrt, dla)
        # TensorRT 10 has no numbered bindings any more; those below 8.5 have nothing else.
        bind = self._bind_by_number if hasattr(self._engine, "num_bindings") else self._bind_by_name
        self._start = bind()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Padded images, float32 (N, 3, H, W) on the GPU, to coarse logits that the next call overwrites.

        Raises:
            EngineError: the images have another shape than the engine's, or TensorRT refuses to start.
        """
        if images.shape != self._input.shape:
            raise EngineError(
                f"images have the shape {tuple(images.shape)}, the TensorRT engine was built for"
                f" {tuple(self._input.shape)}"
            )
        self._input.copy_(images)
        _accepted(self._start(torch.cuda.current_stream().cuda_stream), "to run the engine")
        return self._output

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """See `Body.spread`."""
        return self._spread(coarse)

    def _bind_by_name(self) -> Callable[[int], bool]:
        engine, context = self._engine, self._context
        self._input = _buffer(engine.get_tensor_shape(INPUT))
        _accepted(context.set_input_shape(INPUT, tuple(self._input.shape)), "its input's shape")
        self._output = _buffer(context.get_tensor_shape(OUTPUT))
        for name, tensor in ((INPUT, self._input), (OUTPUT, self._output)):
            _accepted(context.set_tensor_address(name, tensor.data_ptr()), f"the address of '{name}'")

        def start(stream: int) -> bool:
            return bool(context.execute_async_v3(stream))

        return start

    def _bind_by_number(self) -> Callable[[int], bool]:
        engine, context = self._engine, self._context
        first, last = engine.get_binding_index(INPUT), engine.get_binding_index(OUTPUT)
        self._input = _buffer(engine.get_binding_shape(first))
        _accepted(context.set_binding_shape(first, tuple(self._input.shape)), "its input's shape")
        self._output = _buffer(context.get_binding_shape(last))
        addresses = [0, 0]
        addresses[first], addresses[last] = self._input.data_ptr(), self._output.data_ptr()

        def start(stream: int) -> bool:
            return bool(context.execute_async_v2(addresses, stream))

        return start


def _buffer(shape: Any) -> torch.Tensor:
    return torch.zeros(tuple(shape), dtype=torch.float32, device="cuda")


def _accepted(answer: bool, what: str) -> None:
    if not answer:
        raise EngineError(f"TensorRT refuses {what}; its log, on stderr, says why")
