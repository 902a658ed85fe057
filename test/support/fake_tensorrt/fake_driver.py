"""A stand-in for the CUDA driver's library: the functions that are called, on the CPU's memory.

It takes arguments as the library does, as types of ctypes with sizes of their own: a plain number would be
cut to 32 bits on its way into the real one, and is refused here.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, ClassVar

NAME = "Fake Orin"


class FakeDriver:
    """See CUDA's driver API for each."""

    allocated: ClassVar[dict[int, Any]] = {}
    streams: ClassVar[set[int]] = set()

    def __init__(self, devices: int = 1) -> None:
        self._devices = devices
        self.current: set[int] = set()
        """Threads that said which context they use; another one's calls fail in the real driver."""

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not (name.startswith("cu") and name[2].isupper()):
            return found

        def call(*arguments: Any) -> int:
            if name.startswith(("cuMem", "cuStream")) and threading.get_ident() not in self.current:
                return 201
            for argument in arguments:
                assert not isinstance(argument, (int, str, bytes, type(None))), (name, argument)
            return int(found(*arguments))

        return call

    def cuInit(self, flags: ctypes.c_uint) -> int:
        return 0 if self._devices else 100

    def cuGetErrorString(self, code: ctypes.c_int, text: Any) -> int:
        words = {2: b"out of memory", 100: b"no CUDA-capable device is detected", 201: b"invalid context"}
        text._obj.value = words.get(code.value, b"unknown")
        return 0

    def cuDeviceGet(self, device: Any, number: ctypes.c_int) -> int:
        device._obj.value = number.value
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:
        context._obj.value = 0x7FFF00000001
        return 0

    def cuCtxSetCurrent(self, context: ctypes.c_void_p) -> int:
        assert context.value == 0x7FFF00000001
        self.current.add(threading.get_ident())
        return 0

    def cuDeviceGetName(self, text: Any, size: ctypes.c_int, device: ctypes.c_int) -> int:
        text.value = NAME.encode()[: size.value - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: ctypes.c_int, device: ctypes.c_int) -> int:
        value._obj.value = {16: 8, 75: 8, 76: 7}[attribute.value]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:
        size._obj.value = 7_990_000_000
        return 0

    def cuMemAlloc_v2(self, address: Any, size: ctypes.c_size_t) -> int:
        memory = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(memory)
        self.allocated[address._obj.value] = memory
        return 0

    def cuMemFree_v2(self, address: ctypes.c_uint64) -> int:
        del self.allocated[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(
        self, to: ctypes.c_uint64, source: ctypes.c_void_p, size: ctypes.c_size_t, stream: ctypes.c_void_p
    ) -> int:
        assert ctypes.sizeof(self.allocated[to.value]) == size.value and stream.value in self.streams
        ctypes.memmove(to.value, source.value, size.value)  # type: ignore[arg-type]
        return 0

    def cuMemcpyDtoHAsync_v2(
        self, to: ctypes.c_void_p, source: ctypes.c_uint64, size: ctypes.c_size_t, stream: ctypes.c_void_p
    ) -> int:
        assert ctypes.sizeof(self.allocated[source.value]) == size.value and stream.value in self.streams
        ctypes.memmove(to.value, source.value, size.value)  # type: ignore[arg-type]
        return 0

    def cuStreamCreate(self, stream: Any, flags: ctypes.c_uint) -> int:
        stream._obj.value = 0x7FFF10000000 + len(self.streams)
        self.streams.add(stream._obj.value)
        return 0

    def cuStreamSynchronize(self, stream: ctypes.c_void_p) -> int:
        assert stream.value in self.streams
        return 0

    def cuStreamDestroy_v2(self, stream: ctypes.c_void_p) -> int:
        self.streams.discard(stream.value)
        return 0
