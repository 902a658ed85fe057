"""Checkpoints that are refused: what they hold, and that nothing in them is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from safetensors.numpy import save_file
from support.checkpoints import (
    lednet_authors,
    linknet_authors,
    random_weights,
    refusal,
    save_npz,
    save_pytorch,
)

from rt_segmentation.training.importers import (
    SOURCES,
    detect,
)


def test_two_networks_in_one_file_are_named(tmp_path: Path) -> None:
    theirs = lednet_authors(random_weights("lednet", 4))
    both = {f"{name}.{k}": v for name in ("teacher", "student") for k, v in theirs.items()}
    assert "holds 2 networks, under student., teacher.;" in refusal(save_pytorch(tmp_path / "a.pth", both))


class OfTheirCode:
    """A class whose name is long enough to be cut off."""


def test_a_refusal_names_what_is_refused_and_nothing_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": OfTheirCode()}, tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert f"holds more than tensors: {OfTheirCode.__module__}.OfTheirCode, which would run" in message
    assert message.endswith("save only model.state_dict()")
    # No terminal codes, and no way around the check.
    assert "\x1b" not in message and "weights_only" not in message


def test_an_unknown_source_names_those_there_are(tmp_path: Path) -> None:
    message = refusal(save_pytorch(tmp_path / "a.pth", {"backbone.weight": np.ones(3, np.float32)}))
    assert "'backbone.weight'" in message
    for source in SOURCES:
        assert source.name in message
    assert detect(["backbone.weight"]) is None


def test_the_independent_enet_is_refused_with_the_reason(tmp_path: Path) -> None:
    shapes = {
        "initial_block.main_branch.weight": (13, 3, 3, 3),
        "downsample1_0.ext_conv1.0.weight": (4, 16, 2, 2),
    }
    path = save_pytorch(tmp_path / "a.pth", {k: np.ones(v, np.float32) for k, v in shapes.items()})
    message = refusal(path)
    assert "differs from the paper" in message and "to 4 channels" in message


def test_other_shapes_are_named(tmp_path: Path) -> None:
    theirs = linknet_authors(random_weights("linknet", 3))
    theirs["encoder2.0.conv1.weight"] = np.ones((128, 64, 5, 5), np.float32)
    del theirs["decoder1.conv1.0.weight"]
    theirs["extra.weight"] = np.ones(1, np.float32)
    message = refusal(save_pytorch(tmp_path / "a.pth", theirs))
    assert "1 tensors are missing (first 'decoder1.conv1.0.weight')" in message
    assert "'extra.weight'" in message
    assert "'layer2.0.conv1.weight': (128, 64, 5, 5), wanted (128, 64, 3, 3)" in message


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    path = save_pytorch(tmp_path / "a.pth", linknet_authors(random_weights("linknet", 3)))
    assert "has 3 classes, 4 are wanted" in refusal(path, num_classes=4)


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    theirs = linknet_authors(random_weights("linknet", 3))
    theirs["tp_conv2.bias"][1] = np.nan
    assert "'tp_conv2.bias'" in refusal(save_pytorch(tmp_path / "a.pth", theirs))


class Hostile:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("container", ["torch", "pickle", "npz"])
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, container: str) -> None:
    path, evidence = tmp_path / "a.pth", tmp_path / "executed"
    if container == "torch":
        torch.save({"state_dict": Hostile(evidence)}, path)
    elif container == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Hostile(evidence)}, protocol=2))
    else:
        np.savez(tmp_path / "a.npz", x=np.array([Hostile(evidence)], object))
        path = tmp_path / "a.npz"
    refusal(path)
    assert not evidence.exists()


@pytest.mark.parametrize("keep", [0, 3, 100, -100])
@pytest.mark.parametrize("ending", ["pth", "npz", "safetensors"])
def test_truncated_files_are_refused(tmp_path: Path, ending: str, keep: int) -> None:
    theirs = {"tp_conv2.bias": np.ones(500, np.float32)}
    path = tmp_path / f"a.{ending}"
    if ending == "pth":
        save_pytorch(path, theirs)
    elif ending == "npz":
        save_npz(path, theirs)
    else:
        save_file(theirs, path)
    path.write_bytes(path.read_bytes()[:keep])
    refusal(path)


@pytest.mark.parametrize("content", [b"", b"network: enet\n", b"\x89PNG\r\n\x1a\n0000", b"{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert "it must be a PyTorch state dict" in refusal(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "gone.pth")
    assert "directory" in refusal(tmp_path)


def test_a_pickle_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    assert "no state dict" in refusal(tmp_path / "a.pth")
