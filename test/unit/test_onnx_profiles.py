"""ONNX graphs with a profile and a temperature, tuned and timed: as any other model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rt_segmentation.cli import main
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.inference.foreign.original import original_of
from rt_segmentation.models import ModelError, ModelManifest, find_model, write_manifest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from support import foreign

SIZE = (96, 64)
STREET = [
    "--dataset",
    "street",
    "--split=",
    "--option",
    "scenes=1",
    "--option",
    "frames_per_scene=2",
    "--option",
    "first_seed=7",
]
ENGINE = ["--engine", "onnxruntime"]


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield


@pytest.fixture
def frames() -> np.ndarray:
    return np.stack([StreetScene(seed, *SIZE).render(0.0)[0] for seed in (1, 2)])


def imported(folder: Path, gives: str) -> ModelManifest:
    network = foreign.LRASPP() if gives == "logits" else foreign.BiSeNetV2(gives)
    path = foreign.export(foreign.seeded(network), folder / "net.onnx", SIZE, free=False)
    statistics = ["--mean", *map(str, foreign.MEAN), "--std", *map(str, foreign.STD)]
    command = ["models", "import", str(path), "--name", gives, "--out", str(folder)]
    assert main([*command, "--label-set", "camvid11", *statistics]) == 0
    return find_model(folder / f"{gives}.yaml")


def test_profile_finds_shares_and_a_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = imported(tmp_path, "logits")
    capsys.readouterr()
    assert main(["models", "profile", str(manifest.path), *STREET, *ENGINE, "--write"]) == 0
    text = capsys.readouterr().out
    assert "logits on street, 2 frames, engine onnxruntime fp32" in text and "temperature" in text
    written = find_model(manifest.path)
    # Weights of a seed are sure and wrong.
    assert written.temperature > 1.5 and written.profile is not None
    assert sum(written.profile.shares) == pytest.approx(1, abs=1e-3)
    assert replace(written, temperature=1.0, profile=None) == manifest


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_temperature_is_in_the_graph(engine: str, tmp_path: Path, frames: np.ndarray) -> None:
    pytest.importorskip(engine)
    plain = imported(tmp_path, "logits")
    labels, sure = build_engine(plain, engine, "fp32").infer(frames, True)
    warm = write_manifest(replace(plain, temperature=3.0))
    same, less_sure = build_engine(warm, engine, "fp32").infer(frames, True)
    assert sure is not None and less_sure is not None
    assert np.array_equal(same, labels) and less_sure.mean() < sure.mean() - 10
    answers = [original_of(warm)(frame).confidence for frame in frames]
    wanted = np.stack([answer * 255 for answer in answers if answer is not None])
    assert np.abs(less_sure - wanted).max() <= 1


def test_probabilities_have_a_profile_and_no_temperature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = imported(tmp_path, "probabilities")
    capsys.readouterr()
    assert main(["models", "profile", str(manifest.path), *STREET, *ENGINE, "--write"]) == 0
    assert "no temperature: its graph gives probabilities" in capsys.readouterr().out
    written = find_model(manifest.path)
    assert written.temperature == 1 and written.profile is not None
    with pytest.raises(
        ModelError, match=r"temperature is 2.0, an ONNX graph that gives probabilities has none"
    ):
        write_manifest(replace(manifest, temperature=2.0))


def test_labels_alone_have_no_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = imported(tmp_path, "labels")
    capsys.readouterr()
    assert main(["models", "profile", str(manifest.path), *STREET, *ENGINE]) == 2
    assert "gives labels alone, and a profile needs confidence" in capsys.readouterr().err


@pytest.mark.long
def test_tune_and_benchmark_take_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(imported(tmp_path, "logits").path)
    capfd.readouterr()
    assert main(["tune", path, "--seconds", "0.2"]) == 0
    said = capfd.readouterr()
    assert "onnxruntime  fp32" in said.out
    assert "engine 'torch' cannot run model 'logits'" in said.out + said.err
    out = [
        "--out",
        str(tmp_path / "benchmark"),
        "--minutes",
        "0.01",
        "--sizes",
        "96x64",
        "--engines",
        "onnxruntime",
    ]
    assert main(["benchmark", "engines", "--models", path, *out, "--compare", "eager"]) == 0
    page = (tmp_path / "benchmark" / "engines.md").read_text()
    assert "onnxruntime" in page
    said = capfd.readouterr()
    assert "is an ONNX graph, and PyTorch runs none" in said.out + said.err
