"""`rt_seg models`: what it prints, its JSON, and its sentences for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rt_segmentation import models
from rt_segmentation.cli import main
from rt_segmentation.models import ModelManifest, Score, find_model, write_manifest
from rt_segmentation.networks.published import PUBLISHED
from rt_segmentation.weights import save_model

PAPERS = {"published", "convention"}
MODEL_KEYS = {
    "kind",
    "classes",
    "weights_ok",
    "weights_problem",
    *(f.name for f in fields(ModelManifest)),
    *PAPERS,
}
NETWORK_KEYS = {"kind", "network", "num_classes", "width", "height", "parameters", "gmacs", "note", *PAPERS}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    manifest = ModelManifest(
        path=folder / "lednet_toy.yaml",
        name="lednet_toy",
        network="lednet",
        label_set="camvid11",
        width=480,
        height=360,
        weights="lednet_toy.safetensors",
        sha256="",
        parameters=922_144,
        gmacs=3.25,
        license="CC BY-NC 4.0",
        options={"decoder": "light"},
        aliases=("lednet",),
        training={"recipe": "toy", "epochs": 2},
        scores=(Score("mean_iou", "camvid", "val", 0.4321, 480, 360),),
    )
    save_model(manifest, {"a": np.zeros(2, np.float32)})
    monkeypatch.setattr(models, "share_dir", lambda: tmp_path)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["models", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(run(capsys, *arguments, "--json"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["models", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rt_seg models: ") and captured.err.count("\n") == 1
    return captured.err


def test_list(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, row = run(capsys, "list").splitlines()
    assert header.split()[:3] == ["NAME", "ALIASES", "NETWORK"]
    for word in ("lednet_toy", "camvid11", "480x360", "922,144", "3.250", "0.4321"):
        assert word in row


def test_list_as_json(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = run_json(capsys, "list")["models"]
    assert set(model) == MODEL_KEYS
    assert (model["name"], model["weights_ok"], model["weights_problem"]) == ("lednet_toy", True, None)


def test_list_of_nothing(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf / "lednet_toy.yaml").unlink()
    assert "no models" in run(capsys, "list")
    assert run_json(capsys, "list") == {"models": []}


@pytest.mark.parametrize("by", ["lednet_toy", "lednet", "path"])
def test_show_a_model(shelf: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    name = str(shelf / "lednet_toy.yaml") if by == "path" else by
    content = run_json(capsys, "show", name)
    assert set(content) == MODEL_KEYS
    assert content["kind"] == "model" and content["classes"][0] == "Sky"
    assert content["scores"][0]["value"] == 0.4321
    text = run(capsys, "show", name)
    for word in (
        "decoder=light",
        "Bicyclist",
        "480x360",
        "sha256 ok",
        "recipe: toy",
        "0.4321",
        "CC BY-NC 4.0",
    ):
        assert word in text
    assert "LEDNet (arXiv:1905.02423), Table 2: 0.94 M parameters" in text


def test_what_a_manifest_says_is_no_command_to_a_terminal(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = replace(
        find_model("lednet_toy"),
        license="free\nweights     \x1b[32mtrusted\x9b2J",
        aliases=("led\x1b]0;title\x07",),
        training={"recipe": "toy\r\x1b[A"},
    )
    write_manifest(stranger)
    for text in (run(capsys, "show", "lednet_toy"), run(capsys, "list")):
        assert all(character.isprintable() or character == "\n" for character in text)
        assert r"led\x1b]0;title\x07" in text
    assert r"free\nweights     \x1b[32mtrusted\x9b2J" in run(capsys, "show", "lednet_toy")


def test_show_says_when_the_weights_are_damaged(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf / "lednet_toy.safetensors").write_bytes(b"damaged")
    content = run_json(capsys, "show", "lednet")
    assert not content["weights_ok"] and "sha256" in content["weights_problem"]
    text = run(capsys, "show", "lednet")
    assert "sha256 ok" not in text and "the file is damaged" in text


def test_show_a_network(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    content = run_json(capsys, "show", "linknet", "--classes", "19", "--width", "640", "--height", "384")
    assert set(content) == NETWORK_KEYS
    assert (content["kind"], content["parameters"], content["gmacs"]) == ("network", 11_535_699, 10.196)
    (row,) = content["published"]
    assert (row["parameters_millions"], row["gflops"], row["model_size_mb"]) == (11.5, 21.2, 22.0)
    assert "Table III" in row["source"]
    text = run(capsys, "show", "segnet")
    for word in ("segnet, 19 classes", "640x360", "GMACs", "286.0 GFLOPs at 640x360", "29.46 M", "56.2 MB"):
        assert word in text
    assert "2 per multiply-add" in text


def test_sizes_ask_for_the_network_where_a_model_has_its_name(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    assert run_json(capsys, "show", "lednet")["kind"] == "model"
    content = run_json(capsys, "show", "lednet", "--classes", "20", "--width", "1024", "--height", "512")
    assert (content["kind"], content["parameters"]) == ("network", 925_663)
    assert content["gmacs"] == pytest.approx(11.2095, abs=0.001)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nothing"], "unknown model 'nothing'; there are lednet, lednet_toy"),
        (["show", "gone.yaml"], "gone.yaml does not exist"),
        (["show", "lednet_toy", "--classes", "3"], "'lednet_toy' is none"),
        (["show", "enet", "--width", "31"], "31 x 360, both must be 32 or more"),
        (["import", "gone.pth", "--name", "x", "--out", "."], "gone.pth cannot be read: No such file"),
    ],
)
def test_bad_input_gives_one_sentence(
    shelf: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in refusal(capsys, *arguments)


def test_import(tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = shared_data / "checkpoints" / "elab_enet_cityscapes_enet-model.t7"
    if not checkpoint.is_file():
        pytest.skip(f"no checkpoint {checkpoint}")
    pytest.importorskip("torch", reason="torch is not installed: its own format is not read")
    name = ("--name", "enet_cityscapes", "--out", str(tmp_path / "out"))
    content = run_json(capsys, "import", str(checkpoint), *name)
    assert set(content) == MODEL_KEYS
    assert (content["network"], content["label_set"], content["parameters"]) == (
        "enet",
        "cityscapes20",
        364_712,
    )
    assert (content["width"], content["height"], content["gmacs"]) == (1024, 512, 3.93)
    assert content["weights_ok"] and content["license"] == "CC BY-NC 4.0"
    assert run_json(capsys, "show", content["path"]) == content


def test_without_torch_models_are_shown_and_networks_have_the_papers_numbers() -> None:
    without = (
        "import sys; sys.modules['torch'] = None; from rt_segmentation.cli import main; sys.exit(main({}))"
    )

    def run_without(*arguments: str) -> Any:
        code = without.format(["models", *arguments, "--json"])
        return json.loads(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
        )

    assert "models" in run_without("list")
    content = run_without("show", "linknet", "--classes", "19")
    assert set(content) == NETWORK_KEYS
    assert (content["parameters"], content["gmacs"]) == (None, None)
    assert content["note"] == "not counted: torch is not installed"
    assert content["published"][0]["gflops"] == 21.2


def test_published_rows_name_their_table() -> None:
    for row in PUBLISHED:
        assert "arXiv:" in row.source and "Table" in row.source
        assert (row.gflops is None) == (row.width is None) == (row.height is None)
