"""Runs a serialized TensorRT engine from arrays to arrays, and raises where TensorRT or CUDA refuses."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence

import numpy as np
import tensorrt

from rt_segmentation.inference.engines.cuda_driver import Driver
from rt_segmentation.inference.engines.export import INPUT_NAME, OUTPUT_NAMES
from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.engines.tensorrt_builds import load_engine


class Execution:
    """An engine of fixed shapes with its memory on the GPU; threads wait for each other.

    Args:
        serialized: the engine: uint8 images to uint8 labels, and to uint8 confidence if it has that.
        driver: of the GPU that it was built on.

    Raises:
        EngineError: TensorRT refuses the engine, or something of what is needed to run it.
    """

    def __init__(self, serialized: bytes, driver: Driver) -> None:
        self._driver = driver
        driver.activate()
        # An engine needs its runtime for as long as it lives.
        self._runtime, self._engine, self._context = load_engine(serialized, tensorrt)
        self._lock = threading.Lock()
        self._stream = driver.stream()
        weakref.finalize(self, driver.close, self._stream)
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        for name in names:
            self._bind(name)
        self.outputs = tuple(name for name in OUTPUT_NAMES if name in names)

    def _bind(self, name: str) -> None:
        kind = self._engine.get_tensor_dtype(name)
        shape = tuple(self._engine.get_tensor_shape(name))
        if kind != tensorrt.DataType.UINT8 or min(shape) < 1:
            raise EngineError(f"TensorRT made '{name}' {kind} {shape}; it must be bytes of a fixed shape")
        address = self._driver.allocate(math.prod(shape))
        weakref.finalize(self, self._driver.free, address)
        self._shapes[name], self._addresses[name] = shape, address
        if name == INPUT_NAME:
            _accepted(self._context.set_input_shape(name, shape), "its input's shape")
        _accepted(self._context.set_tensor_address(name, address), f"the address of '{name}'")

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> list[np.ndarray]:
        """Run a batch.

        Args:
            images: uint8 (N, H, W, 3) RGB, C-contiguous.
            outputs: some of `self.outputs`.

        Returns:
            Arrays of the caller's, uint8 (N, H, W).

        Raises:
            EngineError: the images have another shape than the engine's, or it cannot be run.
        """
        if images.shape != self._shapes[INPUT_NAME]:
            raise EngineError(
                f"images have the shape {images.shape}, the TensorRT engine was built for"
                f" {self._shapes[INPUT_NAME]}"
            )
        results = [np.empty(self._shapes[name], np.uint8) for name in outputs]
        driver, stream = self._driver, self._stream
        with self._lock:
            driver.activate()
            driver.to_gpu(self._addresses[INPUT_NAME], images, stream)
            try:
                _accepted(self._context.execute_async_v3(stream), "to run the engine")
                for name, result in zip(outputs, results):
                    driver.from_gpu(result, self._addresses[name], stream)
            finally:
                # Copies may still read and write the arrays, also after an error.
                driver.wait(stream)
        return results


def _accepted(answer: bool, what: str) -> None:
    if not answer:
        raise EngineError(f"TensorRT refuses {what}; its log, on stderr, says why")
