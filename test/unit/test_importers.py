"""Foreign checkpoints: detection, renaming, refusals, and the model that is written."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from safetensors.numpy import save_file
from support.torch7_writer import Torch7Writer, network

from rt_segmentation.models import read_manifest
from rt_segmentation.networks import build_network
from rt_segmentation.training.importers import (
    SOURCES,
    CheckpointError,
    detect,
    import_checkpoint,
    write_model,
)
from rt_segmentation.weights import load_weights

Arrays = dict[str, np.ndarray]


def random_weights(name: str, num_classes: int, **options: Any) -> Arrays:
    """A network's state dict with a different value in every place."""
    rng = np.random.default_rng(0)
    state = build_network(name, num_classes, **options).state_dict()
    return {
        key: rng.standard_normal(tuple(value.shape)).astype(np.float32)
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


def respelled(weights: Arrays, *rules: tuple[str, str]) -> Arrays:
    """Our names to the authors': the first rule that matches a name's beginning applies."""

    def spelled(key: str) -> str:
        return next((re.sub(f"^{a}", b, key) for a, b in rules if re.match(a, key)), key)

    return {spelled(key): value for key, value in weights.items()}


DECODER = (
    (r"(decoder\d)\.full_conv", r"\1.tp_conv"),
    (r"head\.([01])", r"tp_conv1.\1"),
    (r"head\.3", "conv2.0"),
    (r"head\.4", "conv2.1"),
    (r"classifier", "tp_conv2"),
)


def linknet_authors(weights: Arrays) -> Arrays:
    first = (("conv1", "in_block.0"), ("bn1", "in_block.1"), (r"layer(\d)", r"encoder\1"))
    return respelled(weights, *first, *DECODER)


def linknet_base_authors(weights: Arrays) -> Arrays:
    return respelled(
        weights, (r"layer(\d)\.0", r"encoder\1.block1"), (r"layer(\d)\.1", r"encoder\1.block2"), *DECODER
    )


def lednet_authors(weights: Arrays) -> Arrays:
    rules = [
        (r"encoder\.layers\.0\.", "encoder.initial_block."),
        (r"encoder\.classifier", "encoder.output_conv"),
    ]
    for ours in range(1, 16):
        for side, letter, shapes in (("left", "l", ("3x1", "1x3")), ("right", "r", ("1x3", "3x1"))):
            names = {0: f"conv{shapes[0]}_1", 2: f"conv{shapes[1]}_1", 3: "bn1"}
            names.update({5: f"conv{shapes[0]}_2", 7: f"conv{shapes[1]}_2", 8: "bn2"})
            for position, name in names.items():
                rules.append(
                    (
                        rf"encoder\.layers\.{ours}\.{side}\.{position}\.",
                        f"encoder.layers.{ours - 1}.{name}_{letter}.",
                    )
                )
        rules.append((rf"encoder\.layers\.{ours}\.", f"encoder.layers.{ours - 1}."))
    rules += [
        (r"apn\.global_branch\.1", "decoder.apn.branch1.1.conv"),
        (r"apn\.middle", "decoder.apn.mid.0.conv"),
        (r"apn\.lateral([12])", r"decoder.apn.conv\1.conv"),
        (r"apn\.down3\.([01])", r"decoder.apn.down3.\1.conv"),
        (r"apn\.down([12])", r"decoder.apn.down\1.conv"),
    ]
    return respelled(weights, *rules)


def enet_authors(weights: Arrays) -> Arrays:
    """Torch7's paths, before the dropout is folded in."""
    numbers = {"encoder.down1": 5, "encoder.down2": 10, "up4": 27, "stage4.0": 28, "stage4.1": 29, "up5": 30}
    numbers.update({"stage5": 31, **{f"encoder.stage1.{i}": 6 + i for i in range(4)}})
    numbers.update({f"encoder.stage{2 + i // 8}.{i % 8}": 11 + i for i in range(16)})
    rules = [(r"encoder\.initial\.conv", "1.1"), ("classifier", "32")]
    rules += [(rf"encoder\.initial\.activation\.{i}", str(3 + i)) for i in (0, 1)]
    for ours, number in numbers.items():
        main = 4 if ours in {f"encoder.stage{s}.{i}" for s in (2, 3) for i in (2, 6)} else 3
        for part, start, count in (("project", 1, 3), ("main", 4, main), ("expand", 4 + main, 2)):
            for i in range(count):
                rules.append((rf"{re.escape(ours)}\.{part}\.{i}\.", f"{number}.1.1.{start + i}."))
        rules += [(rf"{re.escape(ours)}\.shortcut\.{i}\.", f"{number}.1.2.{2 + i}.") for i in (0, 1)]
        rules.append((rf"{re.escape(ours)}\.activation", f"{number}.3"))
    return respelled(weights, *rules)


def save_pytorch(path: Path, arrays: Arrays, prefix: str = "") -> Path:
    torch.save({prefix + key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    return path


def save_npz(path: Path, arrays: Arrays) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in arrays.items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, value, allow_pickle=False)


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


def refusal(path: Path, **arguments: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path, **arguments)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


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
