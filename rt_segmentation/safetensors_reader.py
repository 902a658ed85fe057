"""Read safetensors files, also where the library safetensors is not installed.

The format is 8 bytes with the length of a header, the header as JSON, and the bytes of all tensors
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np

from rt_segmentation.errors import RtSegmentationError

MAX_HEADER_BYTES = 100_000_000
"""A longer header is refused, as by the library."""

# BF16 is the upper half of a float32; NumPy has no such type.
_TYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "BF16": "<u2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_KEYS = {"dtype", "shape", "data_offsets"}


class SafetensorsError(RtSegmentationError, ValueError):
    """A file that is not safetensors, or damaged; the message is one sentence that says what is wrong."""


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Read all tensors, with the library safetensors where it is installed.

    Args:
        data: the whole file.

    Returns:
        The tensors by name, with their own dtypes; BF16 becomes float32.

    Raises:
        SafetensorsError: the data are damaged, or not of this format.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError:
        return parse_safetensors(data)
    try:
        tensors: dict[str, np.ndarray] = load(data)
    except SafetensorError as error:
        raise SafetensorsError(str(error)) from error
    except KeyError:
        # A type that NumPy does not have, such as BF16.
        return parse_safetensors(data)
    return tensors


def parse_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Read all tensors without the library; see `read_safetensors`."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise SafetensorsError(f"the header's length is {length} bytes, and the file has {len(data)}")
    header = _header(data[8 : 8 + length])
    _check_metadata(header.pop("__metadata__", {}))
    body = memoryview(data)[8 + length :]
    tensors: dict[str, np.ndarray] = {}
    position = 0
    for name, entry in sorted(((name, _entry(name, entry)) for name, entry in header.items()), key=_place):
        dtype, shape, (begin, end) = np.dtype(_TYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        if begin != position or end > len(body):
            raise SafetensorsError(
                f"tensor '{name}' lies at bytes {begin} to {end} of {len(body)}, and must begin at {position}"
            )
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise SafetensorsError(
                f"tensor '{name}' of type {entry['dtype']} and shape {shape} has {end - begin} bytes"
            )
        try:
            array = np.frombuffer(body[begin:end], dtype).reshape(shape)
        except ValueError as error:
            raise SafetensorsError(f"tensor '{name}' has a shape that NumPy refuses: {error}") from error
        # A copy, in this machine's byte order, that may be written.
        bf16 = entry["dtype"] == "BF16"
        tensors[name] = (
            np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
            if bf16
            else array.astype(dtype.newbyteorder("="))
        )
        position = end
    if position != len(body):
        raise SafetensorsError(f"the tensors end at byte {position} of {len(body)}")
    return tensors


def _header(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise SafetensorsError("the header does not begin with '{'")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except SafetensorsError:
        raise
    # Numbers of thousands of digits are a ValueError, as damaged UTF-8 and JSON are.
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"the header is not JSON: {error}") from error
    # It begins with a brace.
    assert isinstance(header, dict)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SafetensorsError(f"the header has '{twice}' twice")
    return content


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise SafetensorsError("the header's __metadata__ is not a mapping of texts to texts")


def _entry(name: str, entry: Any) -> dict[str, Any]:
    """Check a tensor's entry: its keys, its type, and its numbers, which must be whole and not negative."""
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise SafetensorsError(f"tensor '{name}' must have {', '.join(sorted(_KEYS))} and nothing else")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _TYPES:
        raise SafetensorsError(
            f"tensor '{name}' has the type {entry['dtype']!r}; readable are {', '.join(_TYPES)}"
        )
    for key in ("shape", "data_offsets"):
        numbers = entry[key]
        if not isinstance(numbers, list) or not all(
            type(number) is int and 0 <= number <= sys.maxsize for number in numbers
        ):
            raise SafetensorsError(
                f"tensor '{name}' has {key} {numbers!r}; it must be a list of whole numbers"
            )
    if len(entry["data_offsets"]) != 2:
        raise SafetensorsError(
            f"tensor '{name}' has {len(entry['data_offsets'])} data_offsets, it must have 2"
        )
    return entry


def _place(item: tuple[str, dict[str, Any]]) -> tuple[int, int]:
    begin, end = item[1]["data_offsets"]
    return begin, end
