"""Loggers, dimensions, weights: what the API hands around."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from .enums import LEVEL, DataType, _enum

_MAX_DIMS = 8
# At the start of a serialised engine.
_MAGIC = b"FAKETRT\0"
_aten = torch.ops.aten
# Methods that torch2trt replaces while it converts.
_size, _to = torch._C.TensorBase.size, torch._C.TensorBase.to
_tolist = torch._C.TensorBase.tolist


class ILogger:
    """Messages, by severity."""

    Severity = _enum("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")

    def __enter__(self) -> Any:
        return _entered(self)

    def __exit__(self, *_: Any) -> None:
        return None


def _entered(this: Any) -> Any:
    warnings.warn("Context managers for TensorRT types are deprecated.", DeprecationWarning, stacklevel=3)
    return this


class Logger(ILogger):
    """Prints to stderr what is severe enough; keeps it for whoever looks."""

    lines: ClassVar[list[str]] = []

    def __init__(self, min_severity: Any = None) -> None:
        self.min_severity = ILogger.Severity.WARNING if min_severity is None else min_severity

    def log(self, severity: Any, message: str) -> None:
        Logger.lines.append(f"[{severity.name[0]}] {message}")
        if severity <= self.min_severity:
            print(f"[FakeTRT] [{severity.name[0]}] {message}", file=sys.stderr)


for _name, _member in ILogger.Severity.__members__.items():
    setattr(Logger, _name, _member)
_LOGGER = Logger(ILogger.Severity.ERROR)


def _error(message: str) -> None:
    _LOGGER.log(ILogger.Severity.ERROR, message)


class Dims:
    """Sizes; not a tuple, as TensorRT's is none."""

    MAX_DIMS = _MAX_DIMS

    def __init__(self, shape: Any = (), valid: Any = True) -> None:
        if len(shape) > _MAX_DIMS:
            raise ValueError(f"Input length {len(shape)}. Max expected length is {_MAX_DIMS}")
        self._d, self._valid = [int.__index__(v) for v in shape], valid

    def __len__(self) -> int:
        return len(self._d) if self._valid else -1

    def __getitem__(self, key: Any) -> Any:
        return tuple(self._d[key]) if isinstance(key, slice) else self._d[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._d)

    def __eq__(self, other: Any) -> Any:
        return self._d == [int(v) for v in other]

    def __repr__(self) -> str:
        return repr(tuple(self._d))


def _ints(values: Any) -> list[int]:
    """What pybind11 takes for Dims: a sequence of ints, no float, no tensor."""
    if isinstance(values, Dims):
        return list(values)
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, (int, np.integer)) for v in values):
        raise TypeError(f"incompatible function arguments: {values!r} cannot be converted to Dims")
    if len(values) > _MAX_DIMS:
        raise TypeError(f"incompatible function arguments: {len(values)} dimensions, at most {_MAX_DIMS}")
    return [int.__index__(v) if isinstance(v, int) else int(v) for v in values]


class Weights:
    """A view of a NumPy array."""

    def __init__(self, a: Any = DataType.FLOAT) -> None:
        if isinstance(a, np.ndarray):
            if not a.flags.c_contiguous:
                raise ValueError("Could not convert non-contiguous NumPy array to Weights.")
            if a.dtype not in (np.float32, np.float16, np.int8, np.int32, np.bool_, np.uint8) and not (
                LEVEL >= 10 and a.dtype == np.int64
            ):
                raise TypeError(f"Could not implicitly convert NumPy data type: {a.dtype} to TensorRT.")
            self._array = a
        else:
            self._array = np.empty(0, np.float32)

    @property
    def size(self) -> int:
        return int(self._array.size)

    def numpy(self) -> np.ndarray:
        return self._array


def _weights(value: Any) -> np.ndarray:
    if value is None:
        return np.empty(0, np.float32)
    if isinstance(value, Weights):
        return value.numpy()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"incompatible function arguments: {type(value).__name__} is no Weights")
    return Weights(value).numpy()


class IHostMemory(bytearray):
    """Bytes of TensorRT's."""

    @property
    def nbytes(self) -> int:
        return len(self)


def volume(iterable: Any) -> int:
    out = 1
    for value in iterable:
        out *= value
    return out


def nptype(trt_type: Any) -> Any:
    names = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64}
    return {**names, "BOOL": np.bool_, "UINT8": np.uint8}[trt_type.name]


class _Invalid(Exception):
    """What TensorRT logs as an error of the network."""


def _need(condition: Any, message: str) -> None:
    if not condition:
        raise _Invalid(message)
