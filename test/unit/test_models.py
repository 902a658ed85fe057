"""Manifests and weights: reading, refusing, finding, writing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rt_segmentation import models
from rt_segmentation.labels import LabelSetError, load_label_set
from rt_segmentation.models import ModelError, ModelManifest, Score, find_model, list_models, read_manifest
from rt_segmentation.weights import compare_shapes, load_weights, save_model

ARRAYS: dict[str, np.ndarray] = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    "conv.bias": np.array([0.5, -1], np.float16),
}


def make_manifest(folder: Path, name: str = "toy", **changes: Any) -> ModelManifest:
    manifest = ModelManifest(
        path=folder / f"{name}.yaml",
        name=name,
        network="lednet",
        label_set="camvid11",
        width=480,
        height=360,
        weights=f"{name}.safetensors",
        sha256="",
        parameters=8,
        gmacs=0.125,
        license="none",
        options={"decoder": "heavy"},
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 2.0, 3.0),
        aliases=(f"{name}_short",),
        training={"recipe": "toy", "epochs": 3, "train": [{"dataset": "camvid"}]},
        scores=(Score("mean_iou", "camvid", "val", 0.5, 480, 360),),
    )
    return replace(manifest, **changes)


SCORE = {"metric": "mean_iou", "dataset": "camvid", "split": "val", "value": 0.5, "width": 480, "height": 360}


@pytest.fixture
def stored(tmp_path: Path) -> ModelManifest:
    return save_model(make_manifest(tmp_path), ARRAYS)


def edited(manifest: ModelManifest, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = yaml.safe_load(manifest.path.read_text())
    edit(content)
    manifest.path.write_text(yaml.safe_dump(content))
    return manifest.path


def test_round_trip(tmp_path: Path, stored: ModelManifest) -> None:
    assert stored == read_manifest(stored.path)
    assert stored == make_manifest(tmp_path, sha256=stored.sha256)
    assert len(stored.sha256) == 64
    arrays = load_weights(stored)
    assert arrays.keys() == ARRAYS.keys()
    for key, value in arrays.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, ARRAYS[key])
    assert stored.labels().name == "camvid11"


def test_optional_keys_have_defaults(stored: ModelManifest) -> None:
    optional = ("options", "mean", "std", "aliases", "training", "scores")
    manifest = read_manifest(edited(stored, lambda content: [content.pop(key) for key in optional]))
    assert manifest.options == {} and manifest.aliases == () and manifest.scores == ()
    assert manifest.mean == (0, 0, 0) and manifest.std == (1, 1, 1)


@pytest.mark.parametrize(
    "key", ["network", "label_set", "width", "weights", "sha256", "parameters", "license"]
)
def test_a_missing_key_is_named(stored: ModelManifest, key: str) -> None:
    with pytest.raises(ModelError, match=f"key '{key}' is missing; required are network, ") as caught:
        read_manifest(edited(stored, lambda content: content.pop(key)))
    assert str(stored.path) in str(caught.value)


def test_an_unknown_key_is_named(stored: ModelManifest) -> None:
    with pytest.raises(ModelError, match="unknown key 'wieghts'"):
        read_manifest(edited(stored, lambda content: content.update(wieghts="x")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "unet"}, "network is 'unet', it must be one of enet"),
        ({"width": 31}, "31 x 360, both must be 32 or more"),
        ({"width": "wide"}, "'wide'"),
        ({"mean": [0, 0]}, "mean and std must have three numbers"),
        ({"mean": [0, math.nan, 0]}, "mean and std must have three numbers"),
        ({"std": [1, math.inf, 1]}, "mean and std must have three numbers"),
        ({"std": [1, 1, 0]}, "std is [1.0, 1.0, 0.0], all must be above 0"),
        ({"std": [1, 1e-300, 1]}, "std [1.0, 1e-300, 1.0] cannot be meant"),
        ({"std": [1.0, 1.0, 1e30]}, "neither may be above 1000"),
        ({"mean": [1e30, 0, 0]}, "mean [1e+30, 0.0, 0.0] and std"),
        ({"mean": [0, -1001, 0]}, "neither may be above 1000"),
        ({"mean": [123.7, 0, 0], "std": [1e-3, 1, 1]}, "nor a pixel above 65504 with them"),
        ({"std": [10**400, 1, 1]}, "'std[0]' is an integer of too many digits"),
        ({"parameters": -5}, "parameters -5 and gmacs 0.125 must be numbers from 0 on"),
        ({"gmacs": math.nan}, "gmacs nan must be numbers from 0 on"),
        ({"scores": [{**SCORE, "value": 7.5}]}, "a score's value is 7.5, it must be a fraction from 0 to 1"),
        ({"scores": [{**SCORE, "value": math.nan}]}, "a score's value is nan, it must be"),
        ({"scores": [{**SCORE, "width": -1}]}, "a score's width x height is -1 x 360"),
        ({"temperature": 0}, "temperature is 0.0, it must be from 0.01 to 100"),
        ({"temperature": 1e-300}, "temperature is 1e-300, it must be"),
        ({"temperature": 1e30}, "temperature is 1e+30, it must be"),
        ({"temperature": math.nan}, "temperature is nan, it must be"),
        ({"height": 10**9}, "480 x 1000000000, both must be 16384 or less"),
        ({"options": 3}, "'options' is 3, it must be a mapping"),
        ({"scores": [{"metric": "mean_iou"}]}, "key 'scores[0].dataset' is missing"),
        ({"name": "other"}, "unknown key 'name'"),
        ({"weights": "../toy.safetensors"}, "beside the manifest"),
        ({"weights": "/etc/toy.safetensors"}, "beside the manifest"),
        ({"weights": "folder/toy.safetensors"}, "beside the manifest"),
        ({"weights": "toy.pth"}, ".safetensors file"),
        ({"label_set": "../labels.yaml"}, "below the manifest's folder"),
        ({"label_set": "/etc/labels.yaml"}, "below the manifest's folder"),
    ],
)
def test_a_wrong_value_is_named(stored: ModelManifest, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_manifest(edited(stored, lambda content: content.update(changes)))
    assert str(stored.path) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ([0.485, 0.456, 0.406], [1 / 255] * 3),
        ([0.5] * 3, [0.5] * 3),
        ([0.0] * 3, [255.0] * 3),
        ([0.0] * 3, [1 / 65504] * 3),
    ],
)
def test_normalisations_that_are_meant_are_taken(
    stored: ModelManifest, mean: list[float], std: list[float]
) -> None:
    path = edited(stored, lambda content: content.update(mean=mean, std=std, temperature=0.2))
    assert read_manifest(path).std == tuple(std)
    # The largest number is one of every engine.
    assert np.isfinite(np.float16((1 - np.array(mean)) / std)).all()


@pytest.mark.parametrize("text", ["- a list", "network: [", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"broken\.yaml"):
        read_manifest(path)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "x\0y", "~nobody-of-that-name", "../enet", "~nobody-of-that-name/x.yaml"]
)
def test_odd_names_are_unknown_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RT_SEG_MODELS", "~nobody-of-that-name/models")
    with pytest.raises(ModelError, match=r"unknown model|does not exist"):
        find_model(name)
    with pytest.raises(LabelSetError, match=r"unknown label set|does not exist"):
        load_label_set(name)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.yaml does not exist"):
        find_model(tmp_path / "gone.yaml")


def test_other_weights_are_refused(stored: ModelManifest) -> None:
    data = bytearray(stored.weights_path.read_bytes())
    data[-1] ^= 1
    stored.weights_path.write_bytes(data)
    with pytest.raises(ModelError, match="sha256") as caught:
        load_weights(stored)
    assert stored.sha256[:12] in str(caught.value) and str(stored.weights_path) in str(caught.value)


def test_missing_weights_are_named(stored: ModelManifest) -> None:
    stored.weights_path.unlink()
    with pytest.raises(ModelError, match=r"toy\.safetensors.*No such file"):
        load_weights(stored)


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_truncated_weights_are_refused_even_with_their_own_sha256(stored: ModelManifest, keep: int) -> None:
    import hashlib

    data = stored.weights_path.read_bytes()[:keep]
    stored.weights_path.write_bytes(data)
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_weights(replace(stored, sha256=hashlib.sha256(data).hexdigest()))


def test_label_set_beside_the_manifest(stored: ModelManifest) -> None:
    (stored.path.parent / "labels").mkdir()
    (stored.path.parent / "labels" / "own.yaml").write_text("classes: [{id: 0, name: a, color: [1, 2, 3]}]")
    manifest = read_manifest(edited(stored, lambda content: content.update(label_set="labels/own.yaml")))
    assert manifest.labels().names == ("a",)


def test_an_unknown_label_set_names_the_model(stored: ModelManifest) -> None:
    with pytest.raises(ModelError, match=r"toy\.yaml: unknown label set 'nothing'"):
        replace(stored, label_set="nothing").labels()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("second", "first"):
        save_model(make_manifest(tmp_path / "models", name), ARRAYS)
    monkeypatch.setattr(models, "share_dir", lambda: tmp_path)
    return tmp_path / "models"


def test_models_are_listed_by_name(shelf: Path) -> None:
    assert [m.name for m in list_models()] == [m.name for m in list_models(shelf)] == ["first", "second"]


def test_a_model_is_found_by_name_short_name_and_path(shelf: Path) -> None:
    assert find_model("second").name == find_model("second_short").name == "second"
    assert find_model(str(shelf / "second.yaml")).name == find_model(shelf / "second.yaml").name == "second"


def test_an_unknown_name_lists_what_there_is(shelf: Path) -> None:
    with pytest.raises(ModelError) as caught:
        find_model("third")
    for word in ("'third'", "first_short", "first", "second_short", "second", ".yaml"):
        assert word in str(caught.value)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_write_leaves_whole_files(
    stored: ModelManifest, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = {path.name: path.read_bytes() for path in stored.path.parent.iterdir()}
    calls = 0

    def full_disk(source: str, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError("no space left on device")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_model(stored, {"other": np.zeros(3, np.float32)})
    after = {path.name: path.read_bytes() for path in stored.path.parent.iterdir()}
    assert after.keys() == before.keys()
    if failing == 1:
        assert after == before
    else:
        # The last name of all: old weights under a new manifest are noticed, never used.
        with pytest.raises(ModelError, match="sha256"):
            load_weights(read_manifest(stored.path))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    damaged = np.array([0.5, value], np.float16)
    manifest = save_model(make_manifest(tmp_path), {**ARRAYS, "conv.bias": damaged})
    with pytest.raises(ModelError, match=r"have values in 'conv\.bias' that are no finite numbers"):
        load_weights(manifest)


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="all must be above 0"):
        save_model(make_manifest(tmp_path, std=(1.0, 0.0, 1.0)), ARRAYS)
    assert not list(tmp_path.iterdir())


def test_compare_shapes_says_what_differs_in_one_sentence() -> None:
    expected: dict[str, tuple[int, ...]] = {"a": (1, 2), "b": (3,), "c": (4,)}
    assert compare_shapes(expected, dict(expected)) is None
    sentence = compare_shapes(expected, {"a": (2, 1), "c": (4,), "z": (1,), "y": (1,)}, "toys")
    assert sentence is not None
    for words in (
        "the toys do not fit",
        "1 tensors are missing (first 'b')",
        "2 are not the network's (first 'y')",
    ):
        assert words in sentence
    assert "'a': (2, 1), wanted (1, 2)" in sentence
