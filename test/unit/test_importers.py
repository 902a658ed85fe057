"""Foreign checkpoints: detection, renaming, refusals, and the model that is written."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from safetensors.numpy import save_file
from support.checkpoints import (
    Arrays,
    enet_authors,
    lednet_authors,
    linknet_authors,
    linknet_base_authors,
    random_weights,
    save_npz,
    save_pytorch,
)
from support.torch7_writer import Torch7Writer, network

from rt_segmentation.cli import main
from rt_segmentation.models import read_manifest
from rt_segmentation.training.importers import (
    CheckpointError,
    import_checkpoint,
    write_model,
)
from rt_segmentation.weights import load_weights


def assert_equal(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize("spelling", [linknet_authors, linknet_base_authors])
def test_linknet_in_both_spellings(tmp_path: Path, spelling: Any) -> None:
    weights = random_weights("linknet", 20)
    model = import_checkpoint(save_pytorch(tmp_path / "a.pth", spelling(weights)))
    assert (model.network, model.options, model.num_classes, model.complete) == ("linknet", {}, 20, True)
    assert model.label_set == "cityscapes20"
    assert_equal(model.weights, weights)


@pytest.mark.parametrize("decoder", ["light", "heavy"])
def test_lednet_with_both_decoders(tmp_path: Path, decoder: str) -> None:
    weights = random_weights("lednet", 20, decoder=decoder)
    model = import_checkpoint(save_pytorch(tmp_path / "a.pth", lednet_authors(weights)))
    assert (model.network, model.options, model.num_classes) == ("lednet", {"decoder": decoder}, 20)
    # Its outputs are in another order than those of `cityscapes20`.
    assert model.label_set is None
    assert_equal(model.weights, weights)


def test_enet_with_its_dropout_folded_in(tmp_path: Path) -> None:
    weights = random_weights("enet", 20)
    theirs = enet_authors(weights)
    save_npz(tmp_path / "enet.npz", theirs)
    (tmp_path / "enet.t7").write_bytes(Torch7Writer().value(network(theirs)))
    model = import_checkpoint(tmp_path / "enet.npz")
    assert (model.network, model.num_classes, model.label_set) == ("enet", 20, "cityscapes20")
    assert_equal(import_checkpoint(tmp_path / "enet.t7").weights, model.weights)
    assert model.weights.keys() == weights.keys()
    for key, value in weights.items():
        folded = key.startswith("encoder.") and re.search(r"\.expand\.1\.(weight|bias)$", key)
        factor = 1.0 if not folded else 0.99 if re.search(r"\.(down1|stage1)\.", key) else 0.9
        np.testing.assert_allclose(model.weights[key], value * factor, rtol=1e-6, err_msg=key)


def test_folding_is_what_torch7_computes() -> None:
    from rt_segmentation.training.importers.enet import convert

    norm = {"weight": 2.0, "bias": 3.0, "running_mean": 1.0, "running_var": 4.0}
    theirs = {f"6.1.1.8.{key}": np.array([value], np.float32) for key, value in norm.items()}
    ours = {key.rpartition(".")[2]: value[0] for key, value in convert(theirs).items()}
    x = 5.0
    expected = 0.99 * (
        norm["weight"] * (x - norm["running_mean"]) / norm["running_var"] ** 0.5 + norm["bias"]
    )
    found = ours["weight"] * (x - ours["running_mean"]) / ours["running_var"] ** 0.5 + ours["bias"]
    assert found == pytest.approx(expected)


def test_resnet18_is_an_encoder_alone(tmp_path: Path) -> None:
    weights = {k: v for k, v in random_weights("linknet", 5).items() if re.match(r"conv1|bn1|layer", k)}
    classifier = {"fc.weight": np.ones((1000, 512), np.float32), "fc.bias": np.ones(1000, np.float32)}
    model = import_checkpoint(save_pytorch(tmp_path / "r.pth", {**weights, **classifier}), num_classes=11)
    assert (model.network, model.num_classes, model.complete) == ("linknet", None, False)
    assert_equal(model.weights, weights)
    with pytest.raises(CheckpointError, match="encoder alone"):
        write_model(model, "x", tmp_path, label_set="camvid11")
    assert not (tmp_path / "x.yaml").exists()


@pytest.mark.parametrize("wrap", ["state_dict", "model_state_dict", "model"])
def test_training_checkpoints_and_data_parallel(tmp_path: Path, wrap: str) -> None:
    weights = random_weights("linknet", 3)
    state = {f"module.{k}": torch.from_numpy(v) for k, v in linknet_authors(weights).items()}
    state["module.in_block.1.num_batches_tracked"] = torch.tensor(7)
    torch.save({"epoch": 3, wrap: state, "optimizer": {"lr": 0.1}}, tmp_path / "a.pth")
    model = import_checkpoint(tmp_path / "a.pth")
    assert model.label_set is None
    assert_equal(model.weights, weights)


WRAPPED: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, Any]]] = {
    "network.": lambda state: {f"network.{k}": v for k, v in state.items()},
    "two prefixes": lambda state: {f"module.model.{k}": v for k, v in state.items()},
    "Lightning": lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3},
    "compiled": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "compiled within": lambda state: {f"net._orig_mod.{k}": v for k, v in state.items()},
    "loss beside": lambda state: {
        **{f"module.{k}": v for k, v in state.items()},
        "criterion.weight": torch.ones(3),
    },
    "scalar beside": lambda state: {
        **{f"module.{k}": v for k, v in state.items()},
        "best": torch.tensor(float("inf")),
    },
    "key 'network'": lambda state: {"epoch": 1, "network": state},
    "key 'params_ema'": lambda state: {"class_weights": torch.ones(3), "params_ema": state},
    "NumPy": lambda state: {
        "best": np.float64(0.7),
        "epoch": np.int64(3),
        "losses": np.arange(3.0),
        "model": state,
    },
    "arguments": lambda state: {"args": argparse.Namespace(lr=np.float32(0.1), name="x"), "weights": state},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrappers_of_other_codes(tmp_path: Path, wrap: str) -> None:
    if wrap in ("NumPy", "arguments") and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        pytest.skip("this PyTorch allows no types beside tensors")
    weights = random_weights("lednet", 4)
    state = {k: torch.from_numpy(v) for k, v in lednet_authors(weights).items()}
    path = tmp_path / "a.pth"
    torch.save(WRAPPED[wrap](state), path)
    assert_equal(import_checkpoint(path).weights, weights)


def test_numpy_scalars_of_the_other_major_version(tmp_path: Path) -> None:
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        pytest.skip("this PyTorch allows no types beside tensors")
    weights = random_weights("lednet", 4)
    state = {k: torch.from_numpy(v) for k, v in lednet_authors(weights).items()}
    path = tmp_path / "a.pth"
    torch.save({"state_dict": state, "best": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    names = [b"numpy.core.multiarray\n", b"numpy._core.multiarray\n"]
    (here,) = (name for name in names if name in data)
    (other,) = (name for name in names if name not in data)
    path.write_bytes(data.replace(here, other))
    assert_equal(import_checkpoint(path).weights, weights)


def test_format_is_found_from_the_content(tmp_path: Path) -> None:
    weights = random_weights("lednet", 4)
    theirs = lednet_authors(weights)
    save_file(theirs, tmp_path / "safetensors.bin")
    save_npz(tmp_path / "npz.bin", theirs)
    save_pytorch(tmp_path / "zip.bin", theirs)
    tensors = {k: torch.from_numpy(v) for k, v in theirs.items()}
    torch.save(tensors, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    for name in ("safetensors", "npz", "zip", "legacy"):
        assert_equal(import_checkpoint(tmp_path / f"{name}.bin").weights, weights)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    theirs = linknet_authors(random_weights("linknet", 3))
    torch.save({k: torch.from_numpy(v).bfloat16() for k, v in theirs.items()}, tmp_path / "a.pth")
    assert all(v.dtype == np.float32 for v in import_checkpoint(tmp_path / "a.pth").weights.values())


def test_written_model(tmp_path: Path) -> None:
    weights = random_weights("linknet", 20)
    model = import_checkpoint(save_pytorch(tmp_path / "a.pth", linknet_authors(weights)))
    manifest = write_model(model, "linknet_cityscapes", tmp_path / "out", width=640, height=384)
    assert manifest == read_manifest(tmp_path / "out" / "linknet_cityscapes.yaml")
    assert (manifest.network, manifest.label_set, manifest.width, manifest.height) == (
        "linknet",
        "cityscapes20",
        640,
        384,
    )
    assert manifest.parameters == 11_535_699 + 32 * 4 + 1
    assert manifest.gmacs == pytest.approx(10.2, abs=0.05)
    assert manifest.mean == (0.406, 0.456, 0.485)
    assert manifest.training["imported_from"] == "a.pth"
    assert_equal(load_weights(manifest), weights)


def test_text_that_is_not_utf_8_is_kept_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / os.fsdecode(b"caf\xe9.pth")
    save_pytorch(tmp_path / "a.pth", lednet_authors(random_weights("lednet", 20))).rename(checkpoint)
    given = ["--license", os.fsdecode(b"\xa9 them"), "--labels", "cityscapes20", "--out", str(tmp_path)]
    assert not main(["models", "import", str(checkpoint), "--name", "model", *given])
    assert r"licence     \xa9 them" in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "model.yaml")
    assert (manifest.license, manifest.training["imported_from"]) == (r"\xa9 them", r"caf\xe9.pth")


def test_a_users_labels_travel_with_the_model(tmp_path: Path) -> None:
    labels = tmp_path / "own.yaml"
    labels.write_text(
        "classes:\n" + "".join(f"- {{id: {i}, name: c{i}, color: [{i}, 0, 0]}}\n" for i in range(3))
    )
    model = import_checkpoint(save_pytorch(tmp_path / "a.pth", lednet_authors(random_weights("lednet", 3))))
    manifest = write_model(model, "mine", tmp_path / "out", label_set=labels, data_license="CC0")
    labels.unlink()
    assert read_manifest(manifest.path).labels().names == ("c0", "c1", "c2")
    assert manifest.license == "CC0"
    # Another model's may come from a file of the same name.
    labels.write_text(
        "classes:\n" + "".join(f"- {{id: {i}, name: d{i}, color: [{i}, 0, 0]}}\n" for i in range(3))
    )
    other = write_model(model, "other", tmp_path / "out", label_set=labels)
    assert read_manifest(other.path).labels().names == ("d0", "d1", "d2")
    assert read_manifest(manifest.path).labels().names == ("c0", "c1", "c2")


def test_labels_must_be_known_and_fit(tmp_path: Path) -> None:
    model = import_checkpoint(save_pytorch(tmp_path / "a.pth", lednet_authors(random_weights("lednet", 3))))
    with pytest.raises(CheckpointError, match="no label set is known for the 3 classes"):
        write_model(model, "mine", tmp_path)
    with pytest.raises(CheckpointError, match=r"camvid11 has 11 classes, checkpoint .* has 3"):
        write_model(model, "mine", tmp_path, label_set="camvid11")
    for name in ("", "..", "a/b", "../b"):
        with pytest.raises(CheckpointError, match="plain file name"):
            write_model(model, name, tmp_path, label_set="camvid11")
    with pytest.raises(CheckpointError, match="0 x 512, both must be 32 or more"):
        write_model(replace(model, num_classes=11), "mine", tmp_path, label_set="camvid11", width=0)
    assert not list(tmp_path.glob("**/*.yaml"))
