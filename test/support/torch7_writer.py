"""Writes Torch7's binary format, as far as tests of its reader need it."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np


class Torch7Writer:
    """Values to bytes; dicts become tables, (type, fields) tuples modules, arrays FloatTensors."""

    def __init__(self) -> None:
        self.indices = itertools.count(1)

    def value(self, value: Any) -> bytes:
        if value is None:
            return struct.pack("<i", 0)
        if isinstance(value, bool):
            return struct.pack("<ii", 5, value)
        if isinstance(value, (int, float)):
            return struct.pack("<id", 1, value)
        if isinstance(value, str):
            return struct.pack("<i", 2) + self.string(value)
        if isinstance(value, dict):
            items = b"".join(self.value(key) + self.value(item) for key, item in value.items())
            return struct.pack("<iii", 3, next(self.indices), len(value)) + items
        if isinstance(value, tuple):
            return self.header(value[0]) + self.value(value[1])
        return self.tensor(value.shape, [s // 4 for s in value.strides], 1, value.tobytes(), value.size)

    def string(self, text: str) -> bytes:
        return struct.pack("<i", len(text)) + text.encode()

    def header(self, name: str) -> bytes:
        return struct.pack("<ii", 4, next(self.indices)) + self.string("V 1") + self.string(name)

    def tensor(self, shape: Any, strides: Any, offset: int, data: bytes, length: int) -> bytes:
        header = self.header("torch.FloatTensor") + struct.pack("<i", len(shape))
        sizes = struct.pack(f"<{len(shape)}q{len(strides)}qq", *shape, *strides, offset)
        return header + sizes + self.header("torch.FloatStorage") + struct.pack("<q", length) + data


def network(arrays: dict[str, np.ndarray]) -> Any:
    """Arrays by paths like `1.2.weight` as the nested nn.Sequential that Torch7 would store."""
    children: dict[float, dict[str, np.ndarray]] = {}
    leaf: dict[str, Any] = {}
    for path, value in arrays.items():
        first, _, rest = path.partition(".")
        if rest:
            children.setdefault(float(first), {})[rest] = value
        else:
            leaf[first] = value
    if not children:
        return ("nn.SpatialConvolution", leaf)
    return ("nn.Sequential", {"modules": {number: network(child) for number, child in children.items()}})
