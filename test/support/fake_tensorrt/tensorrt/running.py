"""Runtime, engines and execution contexts."""

from __future__ import annotations

import ctypes
import pickle
import sys
from typing import Any

import torch

from .enums import _TORCH_TYPES, DLA_CORES, LEVEL, VERSION, TensorIOMode, TensorLocation
from .foundations import _MAGIC, Dims, IHostMemory, ILogger, _aten, _entered, _error, volume
from .parsing import _ONNXProgram
from .program import _Program
from .tensors import _dims


def _tensor_at(address: int, shape: Any, dtype: Any) -> torch.Tensor:
    kind = _TORCH_TYPES[dtype]
    count = volume(shape)
    memory = (ctypes.c_char * (count * torch.empty(0, dtype=kind).element_size())).from_address(address)
    return _aten.reshape(torch.frombuffer(memory, dtype=kind, count=count), list(shape))


class Runtime:
    """Loads engines."""

    num_DLA_cores = DLA_CORES

    def __init__(self, logger: Any) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("incompatible constructor arguments")
        self.DLA_core = 0

    def __enter__(self) -> Any:
        return _entered(self)

    def __exit__(self, *_: Any) -> None:
        return None

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        data = bytes(serialized_engine)
        head, _, rest = data[len(_MAGIC) :].partition(b"\0")
        if not data.startswith(_MAGIC) or head != VERSION.encode():
            _error(f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({head!r}, not {VERSION})")
            return None
        try:
            return ICudaEngine(data, pickle.loads(rest))
        except Exception as error:
            _error(f"IRuntime::deserializeCudaEngine: Error Code 1: Serialization ({error})")
            return None


class ICudaEngine:
    """What was built."""

    def __init__(self, data: bytes, plan: dict[str, Any]) -> None:
        self._data, self._plan = data, plan
        self._program: Any = _ONNXProgram(plan) if "onnx" in plan else _Program(plan)
        self._io = [*plan["inputs"], *plan["outputs"]]

    def __enter__(self) -> Any:
        return _entered(self)

    def __exit__(self, *_: Any) -> None:
        return None

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._data)

    def create_execution_context(self) -> Any:
        return IExecutionContext(self)

    def _find(self, name: str) -> Any:
        return next(entry for entry in self._io if entry[0] == name)

    num_io_tensors = property(lambda self: len(self._io))

    def get_tensor_name(self, index: int) -> str:
        return self._io[index][0]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if self._find(name) in self._plan["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._find(name)[2])

    def get_tensor_dtype(self, name: str) -> Any:
        return self._find(name)[3]

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    if LEVEL < 10:
        num_bindings = property(lambda self: len(self._io))

        def get_binding_name(self, index: int) -> str:
            return self._io[index][0]

        def get_binding_index(self, name: str) -> int:
            return next((i for i, entry in enumerate(self._io) if entry[0] == name), -1)

        def binding_is_input(self, index: int) -> Any:
            return index < len(self._plan["inputs"])

        def get_binding_dtype(self, index: int) -> Any:
            return self._io[index][3]

        def get_binding_shape(self, index: int) -> Dims:
            return Dims(self._io[index][2])

        def get_location(self, index: int) -> Any:
            return TensorLocation.DEVICE


class IExecutionContext:
    """Runs an engine."""

    profiler: Any = None

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> Any:
        self._addresses[name] = int(memory)
        return True

    def set_input_shape(self, name: str, shape: Any) -> Any:
        fits = self.engine._find(name)[2] == _dims(shape)
        if not fits:
            _error(f"IExecutionContext::setInputShape: Error Code 3: API Usage Error ({name}: {shape})")
        return fits

    def get_tensor_shape(self, name: str) -> Dims:
        return self.engine.get_tensor_shape(name)

    def execute_async_v3(self, stream_handle: int) -> Any:
        if set(self._addresses) != {entry[0] for entry in self.engine._io}:
            _error("IExecutionContext::enqueueV3: Error Code 3: API Usage Error (an address is not set)")
            return False
        return self._launch(dict(self._addresses))

    def _launch(self, addresses: dict[str, int]) -> Any:
        engine = self.engine

        def launch() -> None:
            from torch.utils._python_dispatch import _disable_current_modes

            with torch.inference_mode(), _disable_current_modes():
                inputs = {
                    name: _aten.clone(_tensor_at(addresses[name], shape, dtype))
                    for name, _, shape, dtype in engine._plan["inputs"]
                }
                for (name, _, shape, dtype), value in zip(
                    engine._plan["outputs"], engine._program.run(inputs)
                ):
                    _aten.copy_(_tensor_at(addresses[name], shape, dtype), value)

        launch()
        cuda = sys.modules.get("fake_cuda")
        if cuda is not None:
            cuda.launched(launch)
        return True

    if LEVEL < 10:

        def set_binding_shape(self, binding: int, shape: Any) -> Any:
            return self.set_input_shape(self.engine.get_binding_name(binding), shape)

        def get_binding_shape(self, binding: int) -> Dims:
            return self.engine.get_binding_shape(binding)

        def execute_async_v2(self, bindings: list[int], stream_handle: int) -> Any:
            return self._launch({entry[0]: int(a) for entry, a in zip(self.engine._io, bindings)})
