"""Our reader of safetensors beside the library's: the same arrays, and no file that the library refuses."""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rt_segmentation.models import list_models
from rt_segmentation.safetensors_reader import (
    MAX_HEADER_BYTES,
    SafetensorsError,
    parse_safetensors,
    read_safetensors,
)
from rt_segmentation.weights import load_weights

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file(header: Any, body: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype and array.shape == other[name].shape
        assert array.tobytes() == other[name].tobytes()


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_all_our_models_are_read_without_the_library(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = model.weights_path.read_bytes()
    assert_same(parse_safetensors(data), load(data))
    with_library = load_weights(model)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert_same(load_weights(model), with_library)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"])
def test_types_and_shapes_as_the_library_writes_them(dtype: str) -> None:
    rng = np.random.default_rng(3)
    shapes: list[tuple[int, ...]] = [(), (0,), (3, 0, 2), (5,), (2, 3, 4)]
    arrays = {f"t{shape}": rng.integers(0, 2, shape).astype(dtype) for shape in shapes}
    read = parse_safetensors(save(arrays, {"from": "a test"}))
    assert_same(read, arrays)
    # They may be written, as what the library gives may.
    read["t(5,)"][0] = 1


def test_bf16_becomes_float32_with_and_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: no bf16 to compare with")
    from safetensors.torch import save as save_torch

    values = torch.randn(3, 4).bfloat16()
    data = save_torch({"x": values, "one": torch.ones((), dtype=torch.bfloat16)})
    for _ in range(2):
        read = read_safetensors(data)
        assert read["x"].dtype == np.float32 and read["one"].shape == ()
        assert np.array_equal(read["x"], values.float().numpy())
        monkeypatch.setitem(sys.modules, "safetensors", None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "length is 0 bytes, and the file has 0"),
        (b"\x05\0\0", "length is 5 bytes, and the file has 3"),
        (file({"a": F32})[:20], "and the file has 20"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(100), "and the file has 108"),
        (file(b"", b""), "does not begin with '{'"),
        (file(b"[1]"), "does not begin with '{'"),
        (file(b"{\xff}"), "not JSON"),
        (file(b'{"a"'), "not JSON"),
        (file(b'{"a":' + b"[" * 100_000), "not JSON"),
        (file(b'{"a":' + b"9" * 5000 + b"}"), "tensor 'a' must have|not JSON"),
        (file(b'{"a":1,"a":1}'), "has 'a' twice"),
        (file(b'{"a":{"dtype":"F32","dtype":"F32"}}'), "has 'dtype' twice"),
        (file({"__metadata__": {"a": 1}}, b""), "__metadata__ is not a mapping"),
        (file({"__metadata__": []}, b""), "__metadata__ is not a mapping"),
        (file({"a": 3}), "tensor 'a' must have data_offsets, dtype, shape"),
        (file({"a": {"dtype": "F32"}}), "tensor 'a' must have"),
        (file({"a": {**F32, "more": 1}}), "and nothing else"),
        (file({"a": {**F32, "dtype": "F8_E4M3"}}), "type 'F8_E4M3'; readable are"),
        (file({"a": {**F32, "dtype": ["F32"]}}), "has the type"),
        (file({"a": {**F32, "shape": [2.0]}}), r"shape \[2.0\]; it must be a list of whole numbers"),
        (file({"a": {**F32, "shape": [-2]}}), "whole numbers"),
        (file({"a": {**F32, "shape": [True, 2]}}), "whole numbers"),
        (file({"a": {**F32, "shape": [2**63, 0]}}), "whole numbers"),
        (file({"a": {**F32, "shape": None}}), "whole numbers"),
        (file({"a": {**F32, "data_offsets": [0, 8, 8]}}), "has 3 data_offsets"),
        (file({"a": {**F32, "shape": [3]}}), r"shape \[3\] has 8 bytes"),
        (file({"a": {**F32, "data_offsets": [0, 16]}}), "at bytes 0 to 16 of 8"),
        (file({"a": {**F32, "data_offsets": [8, 0]}}), "must begin at 0"),
        (file({"a": {**F32, "data_offsets": [4, 12]}}, bytes(12)), "must begin at 0"),
        (file({"a": F32, "b": F32}), "tensor 'b' lies at bytes 0 to 8 of 8, and must begin at 8"),
        (file({"a": F32}, bytes(9)), "end at byte 8 of 9"),
        (file({"a": {"dtype": "F32", "shape": [0, *[2**62] * 2], "data_offsets": [0, 0]}}, b""), "NumPy"),
    ],
)
def test_damage_is_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(SafetensorsError, match=words):
        parse_safetensors(data)


def test_what_the_library_refuses_is_refused() -> None:
    """Files with random bytes changed, cut or added, mostly in the header."""
    rng = np.random.default_rng(5)
    whole = save({"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(2, np.float16)})
    header_end = 8 + int.from_bytes(whole[:8], "little")
    accepted = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, min(len(data), header_end + 4)))
            kind = rng.integers(0, 3)
            if kind == 0:
                data[at] = rng.choice(list(b'0123456789{}[]":, FIU')) if at >= 8 else rng.integers(0, 256)
            elif kind == 1:
                del data[at : at + int(rng.integers(1, 4))]
            else:
                data[at:at] = bytes(rng.choice(list(b'0123456789,[]"'), 1).tolist())
        try:
            ours = parse_safetensors(bytes(data))
        except SafetensorsError:
            continue
        try:
            theirs = load(bytes(data))
        except SafetensorError as error:
            pytest.fail(f"the library refuses {bytes(data)!r}: {error}")
        assert_same(ours, theirs)
        accepted += 1
    assert accepted > 50
