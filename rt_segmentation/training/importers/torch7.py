"""Torch7's binary serialisation (`torch.save` of Lua Torch, files `.t7`), read without executing anything.

An object is an int32 that says its kind, then its value; tables and torch objects carry an index, by which a
later occurrence refers to the first. Integers and floats are little endian: int32 for kinds, indices and
lengths of strings and tables, int64 for sizes of tensors and storages, float64 for numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.training.importers.errors import CheckpointError

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN = range(6)

ELEMENTS: dict[str, str] = {
    "Float": "<f4",
    "Cuda": "<f4",
    "Double": "<f8",
    "CudaDouble": "<f8",
    "Long": "<i8",
    "CudaLong": "<i8",
    "Int": "<i4",
    "CudaInt": "<i4",
    "Short": "<i2",
    "Byte": "<u1",
    "CudaByte": "<u1",
    "Char": "<i1",
}

MODULE_PACKAGES = ("nn.", "cudnn.", "cunn.", "nngraph.")
DEEPEST = 100
MOST_DIMENSIONS = 16


@dataclass
class Module:
    """A Torch7 object of a class like `nn.SpatialConvolution`, as its fields."""

    type: str
    fields: dict[Any, Any] = field(default_factory=dict)


def read_torch7(path: Path) -> Any:
    """Read the object in a `.t7` file.

    Returns:
        None, bool, float, str, dict (a table; numbers are floats), `Module`, array (a tensor or storage).

    Raises:
        CheckpointError: the file cannot be read, ends early, continues after its object, or holds something
            that is neither data nor an nn or cudnn module, such as a function.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    reader = _Reader(data, path)
    value = reader.value(0)
    if reader.position != len(data):
        raise reader.error(f"has {len(data) - reader.position} bytes after its object")
    return value


class _Reader:
    def __init__(self, data: bytes, path: Path) -> None:
        self.data = data
        self.path = path
        self.position = 0
        self.known: dict[int, Any] = {}

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"checkpoint {self.path} {what} (byte {self.position}); it is no readable Torch7 file"
        )

    def take(self, count: int) -> memoryview:
        """The next bytes; every length in the file passes here, so none asks for more than the file has."""
        left = len(self.data) - self.position
        if not 0 <= count <= left:
            raise self.error(f"is truncated or damaged: {count} bytes wanted, {left} are left")
        start, self.position = self.position, self.position + count
        return memoryview(self.data)[start : self.position]

    def int32(self) -> int:
        return int(struct.unpack("<i", self.take(4))[0])

    def int64s(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}q", self.take(8 * count)))

    def string(self) -> str:
        return bytes(self.take(self.int32())).decode("utf-8", "replace")

    def value(self, depth: int) -> Any:
        if depth > DEEPEST:
            raise self.error(f"nests its objects deeper than {DEEPEST}")
        kind = self.int32()
        if kind == NIL:
            return None
        if kind == NUMBER:
            return float(struct.unpack("<d", self.take(8))[0])
        if kind == STRING:
            return self.string()
        if kind == BOOLEAN:
            return self.int32() != 0
        if kind not in (TABLE, TORCH):
            raise self.error(f"holds an object of kind {kind}, only data and modules are read")
        index = self.int32()
        if index in self.known:
            return self.known[index]
        return self.table(index, depth) if kind == TABLE else self.torch_object(index, depth)

    def table(self, index: int, depth: int) -> dict[Any, Any]:
        table: dict[Any, Any] = {}
        self.known[index] = table
        for _ in range(self.int32()):
            key = self.value(depth + 1)
            if not isinstance(key, (str, float, bool)):
                raise self.error(f"has a table with a key of type {type(key).__name__}")
            table[key] = self.value(depth + 1)
        return table

    def torch_object(self, index: int, depth: int) -> Any:
        name = self.string()
        if name.startswith("V "):
            name = self.string()
        package, _, kind = name.rpartition(".")
        if package == "torch" and kind.endswith("Tensor") and kind[:-6] in ELEMENTS:
            self.known[index] = self.tensor(np.dtype(ELEMENTS[kind[:-6]]), depth)
        elif package == "torch" and kind.endswith("Storage") and kind[:-7] in ELEMENTS:
            element = np.dtype(ELEMENTS[kind[:-7]])
            (length,) = self.int64s(1)
            self.known[index] = np.frombuffer(self.take(length * element.itemsize), element)
        elif name.startswith(MODULE_PACKAGES):
            module = Module(name)
            self.known[index] = module
            fields = self.value(depth + 1)
            if not isinstance(fields, dict):
                raise self.error(f"has a {name} without fields")
            module.fields = fields
        else:
            raise self.error(
                f"holds an object of class '{name[:60]}', only tensors, nn and cudnn modules are read"
            )
        return self.known[index]

    def tensor(self, element: np.dtype[Any], depth: int) -> np.ndarray:
        dimensions = self.int32()
        if not 0 <= dimensions <= MOST_DIMENSIONS:
            raise self.error(f"has a tensor of {dimensions} dimensions")
        sizes, strides = self.int64s(dimensions), self.int64s(dimensions)
        offset = self.int64s(1)[0] - 1
        storage = self.value(depth + 1)
        if storage is None or dimensions == 0:
            return np.zeros(0, element)
        if not isinstance(storage, np.ndarray) or storage.dtype != element:
            raise self.error("has a tensor whose storage is of another type")
        if min(sizes) < 0 or min(strides) < 0 or offset < 0:
            raise self.error(f"has a tensor with sizes {sizes}, strides {strides} and offset {offset}")
        if 0 in sizes:
            return np.zeros(0, element)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides))
        count = 1
        for size in sizes:
            count *= size
        if last >= len(storage) or count > len(storage):
            raise self.error(f"has a tensor of {sizes} in a storage of {len(storage)} values")
        # Of a side of 1 the stride is free, and may be too large for NumPy.
        steps = [stride * element.itemsize if size > 1 else 0 for size, stride in zip(sizes, strides)]
        return np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps, writeable=False)
