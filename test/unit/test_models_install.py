"""`rt_seg models install`: a model that is found by its name, whole, checked, and never replaced silently."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation import models
from rt_segmentation.cli import main
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.installing import InstallError, install_model
from rt_segmentation.models import ModelError, ModelManifest, find_model, list_models, read_manifest
from rt_segmentation.weights import load_weights, save_model

CLASSES = "".join(f"  - {{id: {i}, name: thing {i}, color: [{i}, 0, 0]}}\n" for i in range(11))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models are installed; the package has one, 'shipped', also called 'short'."""
    monkeypatch.setenv("RT_SEG_MODELS", str(tmp_path / "installed"))
    return tmp_path / "installed"


@pytest.fixture
def own(small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelManifest:
    """A model with a label set of its own, in a folder of a training; and a package with one model."""
    share = tmp_path / "share"
    weights = load_weights(small_model)
    shipped = replace(
        small_model, path=share / "models" / "shipped.yaml", name="shipped", weights="s.safetensors"
    )
    save_model(replace(shipped, aliases=("short",)), weights)
    run = tmp_path / "run"
    (run / "labels").mkdir(parents=True)
    (run / "labels" / "site.yaml").write_text(f"name: site\nclasses:\n{CLASSES}")
    monkeypatch.setattr(models, "share_dir", lambda: share)
    return save_model(
        replace(
            small_model,
            path=run / "own.yaml",
            name="own",
            weights="own.safetensors",
            label_set="labels/site.yaml",
            aliases=("short", "mine"),
            training={"recipe": "own", "commit": "abc"},
        ),
        weights,
    )


def install(own: ModelManifest, **options: object) -> tuple[ModelManifest, list[str]]:
    return install_model(own, engine="torch", precision="fp32", **options)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_installed_model_is_found_by_name(own: ModelManifest, folder: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'own'; there are short, shipped"):
        find_model("own")
    installed, notes = install(own)
    assert find_model("own") == find_model("mine") == installed
    assert installed.path == folder / "own.yaml"
    assert [m.name for m in list_models()] == ["own", "shipped"]
    # A short name of the package's is not taken without being asked for.
    assert find_model("short").name == "shipped" and installed.aliases == ("mine",)
    assert notes == ["'short' stays 'shipped'; --alias short with --overwrite takes it"]
    # All that belongs to it is there, with its origin.
    assert installed.labels().names == own.labels().names and installed.sha256 == own.sha256
    assert load_weights(installed).keys() == load_weights(own).keys()
    assert installed.training["recipe"] == "own" and installed.training["commit"] == "abc"
    about = installed.training["installed"]
    assert about["from"] == str(own.path.resolve()) and about["gate"].startswith("torch fp32")
    assert sorted(files(folder)) == sorted(
        [f"labels/own.{own.sha256[:8]}.yaml", f"own.{own.sha256[:8]}.safetensors", "own.yaml"]
    )


def test_nothing_is_replaced_without_being_told(own: ModelManifest, folder: Path) -> None:
    install(own)
    before = files(folder)
    for options, sentence in (
        ({}, "a model 'own' is installed already"),
        ({"name": "shipped"}, "a model 'shipped' comes with the package"),
        ({"name": "short"}, "'short' is a short name of 'shipped'"),
        ({"name": "new", "aliases": ("short",)}, "alias 'short' is taken by model 'shipped'"),
        ({"name": "new", "aliases": ("shipped",), "overwrite": True}, "alias 'shipped' is taken"),
        ({"name": "../x"}, "cannot be a file's name"),
        ({"name": "x.yaml"}, "leave the ending out"),
        ({"name": "new", "aliases": ("\udcff",)}, r"alias '\\xff' must be a text of one line, in UTF-8"),
        ({"name": "new", "aliases": ("a/b",)}, "alias 'a/b' cannot be a file's name"),
    ):
        with pytest.raises(InstallError, match=sentence):
            install(own, **options)
    assert files(folder) == before


def test_other_weights_replace_the_old_ones(own: ModelManifest, folder: Path) -> None:
    install(own)
    weights = load_weights(own)
    weights["classifier.bias"] = weights["classifier.bias"] + 0.25
    newer = save_model(own, weights)
    installed, _ = install(newer, overwrite=True)
    assert find_model("own").sha256 == installed.sha256 == newer.sha256 != own.sha256
    # What belonged to the old one is gone.
    assert not [name for name in files(folder) if own.sha256[:8] in name]
    assert len(files(folder)) == 3 and installed.labels().names == own.labels().names


def test_short_names_change_hands(own: ModelManifest, folder: Path) -> None:
    install(own)
    second, notes = install(own, name="second", aliases=("mine", "short"), overwrite=True)
    assert find_model("mine") == find_model("short") == second
    assert find_model("own").aliases == () and find_model("shipped").aliases == ("short",)
    assert "'short' was 'shipped' and is 'second' now" in notes
    assert "the manifest of 'own' was changed: its aliases are none now" in notes
    shadow, _ = install(own, name="shipped", aliases=(), overwrite=True)
    assert find_model("shipped") == shadow and [m.name for m in list_models()].count("shipped") == 1


def test_a_failed_installation_leaves_everything(
    own: ModelManifest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(own)
    before = files(folder)
    weights = load_weights(own)
    weights["classifier.bias"] = weights["classifier.bias"] + 0.5
    newer = save_model(own, weights)

    def refuse(*_: object, **__: object) -> None:
        raise EngineError("labels otherwise")

    with monkeypatch.context() as patch:
        patch.setattr("rt_segmentation.inference.engines.build_engine", refuse)
        with pytest.raises(EngineError):
            install(newer, overwrite=True)
    assert files(folder) == before

    moved: list[object] = []

    def full(source: object, target: object) -> None:
        if len(moved) == 2 and ".partial" not in str(target):
            raise OSError("no space left on device")
        moved.extend([target] if ".partial" not in str(target) else [])
        os.rename(str(source), str(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            install(newer, overwrite=True)
    # The old one is whole and is used: its files have names of their own.
    assert load_weights(find_model("own")).keys() and find_model("own").sha256 == own.sha256
    assert not list(folder.glob("*.partial")) and not list(folder.glob(".*.partial"))

    newer.weights_path.write_bytes(b"x")
    with pytest.raises(ModelError, match="sha256"):
        install(newer, name="third")


def test_a_damaged_installed_model_does_not_hide_the_others(
    own: ModelManifest, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(own)
    (folder / "bad.yaml").write_text("network: [")
    assert [m.name for m in list_models()] == ["own", "shipped"]
    assert "an installed model is left out" in caplog.text and "bad.yaml" in caplog.text


def test_the_command(own: ModelManifest, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["models", "install", str(own.path), "--engine", "torch", "--precision", "fp32"]
    assert not main([*command, "--name", "site", "--alias", "robot"])
    assert f"{folder / 'site.yaml'}: site (also robot), checked with torch fp32" in capsys.readouterr().out
    assert not main(["models", "list"])
    said = capsys.readouterr().out
    assert f"installed in {folder}: site; the others come with the package" in said
    assert yaml.safe_load((folder / "site.yaml").read_text())["aliases"] == ["robot"]
    assert main(["models", "install", str(own.weights_path)]) == 2
    assert "is no manifest" in capsys.readouterr().err
    assert main(["models", "install", str(own.path.with_name("gone.yaml"))]) == 2
    assert read_manifest(folder / "site.yaml").name == "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RT_SEG_MODELS", str(own.path / "below"))
        assert main(command) == 2
    assert "of installed models cannot be written: Not a directory" in capsys.readouterr().err


def test_where_models_are_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rt_segmentation.resources import installed_models_dir

    monkeypatch.delenv("RT_SEG_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert installed_models_dir() == tmp_path / "rt_segmentation" / "models"
    # `pip install --user` puts the package's own there.
    monkeypatch.setattr("rt_segmentation.resources.share_dir", lambda: tmp_path / "rt_segmentation")
    assert installed_models_dir() == tmp_path / "rt_segmentation" / "installed_models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert installed_models_dir() == Path.home() / ".local/share/rt_segmentation/models"
    monkeypatch.setenv("RT_SEG_MODELS", "here")
    assert installed_models_dir() == Path.cwd() / "here"
