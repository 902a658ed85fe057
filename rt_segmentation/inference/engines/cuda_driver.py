"""What an engine needs of CUDA without PyTorch: memory, copies, a stream, and the GPU's name.

By ctypes from the driver's own library: it comes with every driver, on a Jetson too, under one name and with
functions that stay as they are. The runtime library (libcudart) has another name in each version of CUDA and
lies somewhere else in each package, and NVIDIA's Python package for either would be one more to install.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.interface import EngineError, EngineUnavailable

LIBRARY = "libcuda.so.1"

# CUdevice_attribute.
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76
# CU_STREAM_NON_BLOCKING: it waits for no other stream of the process.
_NON_BLOCKING = 1


def load() -> Any:
    """The driver's library.

    Raises:
        OSError: there is none.
    """
    return ctypes.CDLL(LIBRARY)


@cache
def driver() -> Driver:
    """The driver of this machine.

    Raises:
        EngineUnavailable: there is none, or no GPU.
    """
    try:
        library = load()
    except OSError as error:
        raise EngineUnavailable(
            f"engine 'tensorrt' needs an NVIDIA GPU with its driver: {LIBRARY} is not here ({error})"
        ) from error
    try:
        return Driver(library)
    except EngineError as error:
        raise EngineUnavailable(f"engine 'tensorrt' needs an NVIDIA GPU that works: {error}") from error


class Driver:
    """The first GPU, in the context that TensorRT uses as well.

    Args:
        library: has the driver's functions.

    Raises:
        EngineError: there is no GPU, or the driver refuses something.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._call("cuInit", ctypes.c_uint(0))
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(0))
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    def name(self) -> str:
        """The GPU's."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, ctypes.c_int(len(text)), self._device)
        return text.value.decode(errors="replace")

    def hardware(self) -> dict[str, Any]:
        """What tells GPUs of one name apart, as JSON's types."""
        memory = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(memory), self._device)
        return {
            "compute_capability": f"{self._attribute(_MAJOR)}.{self._attribute(_MINOR)}",
            "multiprocessors": self._attribute(_MULTIPROCESSORS),
            "memory": memory.value,
        }

    def activate(self) -> None:
        """Have this thread use the GPU; each thread says so for itself."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Address of bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give bytes on the GPU back, from any thread."""
        self.activate()
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def stream(self) -> int:
        """Handle of a new stream."""
        handle = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(handle), ctypes.c_uint(_NON_BLOCKING))
        return handle.value or 0

    def close(self, stream: int) -> None:
        """Destroy a stream, from any thread."""
        self.activate()
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def to_gpu(self, address: int, array: np.ndarray, stream: int) -> None:
        """Copy an array, C-contiguous, to the GPU."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(stream),
        )

    def from_gpu(self, array: np.ndarray, address: int, stream: int) -> None:
        """Copy from the GPU into an array, C-contiguous; it is there after `wait`."""
        self._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(stream),
        )

    def wait(self, stream: int) -> None:
        """Until all is done that was put into a stream."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            words = (text.value or b"unknown error").decode(errors="replace")
            raise EngineError(f"CUDA's {name} failed with {code}: {words}")
