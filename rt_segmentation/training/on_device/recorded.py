"""A training step's passes as one CUDA graph: started by one call, where each kernel costs one otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

WARM_UP = 3
"""Passes before the recording, in which libraries choose their kernels."""


class RecordedPasses:
    """Forward and backward pass of a step, recorded once and replayed.

    The gradients lie where the recording put them: nothing may set them to None, and each replay replaces
    them. What the passes read must lie in the same memory as when they were recorded.

    Args:
        passes: computes the loss of a batch, a scalar, without waiting for the device.
        parameters: whose gradients the loss has.
        buffers: that the passes change, as batch norm's averages; the warm-up leaves them as they were.
        dtype: of autocast, or None for float32.
    """

    def __init__(
        self,
        passes: Callable[[], torch.Tensor],
        parameters: list[nn.Parameter],
        buffers: list[torch.Tensor],
        dtype: torch.dtype | None,
    ) -> None:
        # A cast of a weight that autocast remembers from before would be recorded as a constant.
        autocast = torch.autocast(
            "cuda", dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False
        )
        kept = [buffer.clone() for buffer in buffers]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                _forget(parameters)
                with autocast:
                    loss = passes()
                loss.backward()
        torch.cuda.current_stream().wait_stream(stream)
        for buffer, value in zip(buffers, kept):
            buffer.copy_(value)
        del loss
        _forget(parameters)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            with autocast:
                self._loss = passes()
            self._loss.backward()
        self._loss = self._loss.detach()

    def __call__(self) -> torch.Tensor:
        """Replay, and return the loss."""
        self._graph.replay()
        return self._loss.clone()


def _forget(parameters: list[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
