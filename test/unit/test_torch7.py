"""The reader of Torch7 files: what it reads and what it refuses."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.torch7_writer import Torch7Writer, network

from rt_segmentation.training.importers import CheckpointError
from rt_segmentation.training.importers.tensors import read_tensors
from rt_segmentation.training.importers.torch7 import Module, read_torch7

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "file.t7"
    path.write_bytes(data)
    return read_torch7(path)


@pytest.mark.parametrize(
    "value", [None, True, False, 2.5, "text", {}, {"a": 1.0, 2.0: "b", "c": {"d": None}}]
)
def test_values(tmp_path: Path, value: Any) -> None:
    assert read(tmp_path, Torch7Writer().value(value)) == value


def test_modules_and_tensors(tmp_path: Path) -> None:
    module = read(tmp_path, Torch7Writer().value(("cudnn.SpatialConvolution", {"weight": ARRAY, "kW": 3})))
    assert isinstance(module, Module)
    assert module.type == "cudnn.SpatialConvolution"
    assert module.fields["kW"] == 3
    np.testing.assert_array_equal(module.fields["weight"], ARRAY)


def test_a_view_into_a_storage(tmp_path: Path) -> None:
    data = Torch7Writer().tensor((2, 2), (1, 3), 2, ARRAY.tobytes(), 6)
    np.testing.assert_array_equal(read(tmp_path, data), [[1, 4], [2, 5]])


def test_one_storage_for_two_tensors(tmp_path: Path) -> None:
    writer = Torch7Writer()
    first = writer.tensor((6,), (1,), 1, ARRAY.tobytes(), 6)
    storage = struct.pack("<ii", 4, 2)  # the first tensor is object 1, its storage 2
    second = writer.header("torch.FloatTensor") + struct.pack("<iqqq", 1, 2, 1, 5) + storage
    content = read(
        tmp_path, struct.pack("<iii", 3, 9, 2) + writer.value("a") + first + writer.value("b") + second
    )
    np.testing.assert_array_equal(content["a"], ARRAY.ravel())
    np.testing.assert_array_equal(content["b"], [4, 5])


def test_a_table_that_holds_itself(tmp_path: Path) -> None:
    writer = Torch7Writer()
    content = read(tmp_path, struct.pack("<iii", 3, 1, 1) + writer.value("me") + struct.pack("<ii", 3, 1))
    assert content["me"] is content


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = Torch7Writer().value(("nn.Linear", {"weight": ARRAY, "name": "last", "train": False}))
    for length in range(len(data)):
        with pytest.raises(CheckpointError, match="truncated"):
            read(tmp_path, data[:length])


WRITER = Torch7Writer()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (WRITER.value(1.0) + b"x", "1 bytes after"),
        (struct.pack("<i", 6), "kind 6"),
        (struct.pack("<i", -1), "kind -1"),
        (struct.pack("<ii", 2, -5), "truncated or damaged"),
        (struct.pack("<ii", 2, 2**31 - 1), "truncated or damaged"),
        (struct.pack("<iii", 3, 1, 2**31 - 1), "truncated or damaged"),
        (struct.pack("<iii", 3, 1, 1) + WRITER.value({}) + WRITER.value(1), "key of type dict"),
        (WRITER.header("os.execute") + WRITER.value({}), "class 'os.execute'"),
        (WRITER.header("torch.Generator"), "class 'torch.Generator'"),
        (WRITER.header("nn.Linear") + WRITER.value(3), "nn.Linear without fields"),
        (WRITER.header("torch.FloatStorage") + struct.pack("<q", 2**62), "truncated or damaged"),
        (WRITER.header("torch.FloatStorage") + struct.pack("<q", -1), "truncated or damaged"),
        (WRITER.header("torch.FloatTensor") + struct.pack("<i", 1000), "1000 dimensions"),
        (WRITER.tensor((7,), (1,), 1, ARRAY.tobytes(), 6), "in a storage of 6"),
        (WRITER.tensor((6,), (1,), 2, ARRAY.tobytes(), 6), "in a storage of 6"),
        (WRITER.tensor((2**40,), (0,), 1, ARRAY.tobytes(), 6), "in a storage of 6"),
        (WRITER.tensor((2,), (-1,), 3, ARRAY.tobytes(), 6), "strides [-1]"),
        (WRITER.tensor((2,), (1,), 0, ARRAY.tobytes(), 6), "offset -1"),
        (b"".join(struct.pack("<iii", 3, i, 1) + WRITER.value(1) for i in range(1, 300)), "deeper than"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, data)
    assert "file.t7" in str(caught.value)
    assert words in str(caught.value)


def test_tensors_of_a_network_by_path(tmp_path: Path) -> None:
    arrays = {"1.weight": ARRAY, "2.1.weight": ARRAY + 1, "2.1.bias": ARRAY[0], "10.running_var": ARRAY[1]}
    (tmp_path / "net.t7").write_bytes(Torch7Writer().value(network(arrays)))
    found = read_tensors(tmp_path / "net.t7")
    assert list(found) == list(arrays)
    for key, value in arrays.items():
        np.testing.assert_array_equal(found[key], value)


def test_a_network_inside_itself_ends(tmp_path: Path) -> None:
    writer = Torch7Writer()
    modules = struct.pack("<iii", 3, 99, 1) + writer.value(1) + struct.pack("<ii", 4, 1)
    fields = struct.pack("<iii", 3, 98, 1) + writer.value("modules") + modules
    (tmp_path / "loop.t7").write_bytes(writer.header("nn.Sequential") + fields)
    with pytest.raises(CheckpointError, match="a second time"):
        read_tensors(tmp_path / "loop.t7")


def test_a_table_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "table.t7").write_bytes(Torch7Writer().value({"weight": ARRAY}))
    with pytest.raises(CheckpointError, match="no Torch7 network but a dict"):
        read_tensors(tmp_path / "table.t7")
