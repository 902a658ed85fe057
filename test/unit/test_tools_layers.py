"""The instrument for layers: every layer that is executed is in the table, and nothing else."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from rt_segmentation.inference.engines import EngineError
from rt_segmentation.models import ModelManifest
from tools.benchmarks import layers


def measure(model: ModelManifest, precision: str, out: Path) -> None:
    layers.main(Namespace(models=[str(model.path)], sizes=["96x64"], precisions=[precision], out=out))


@pytest.mark.long
def test_layers_are_told_by_kind(
    small_model: ModelManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    measure(small_model, "fp32", tmp_path)
    (row,) = json.loads((tmp_path / "layers.json").read_text())["rows"]
    assert (row["width"], row["height"], row["precision"]) == (96, 64, "fp32")
    assert row["arithmetic_ms"] > 0
    counts: dict[str, int] = {}
    for kind in row["layers"]:
        assert kind["ms"] > 0 and kind["kernel"]
        counts[kind["kind"]] = counts.get(kind["kind"], 0) + kind["count"]
    assert 80 < counts["Convolution"] < 100 and counts["TopK"] == 1
    assert [kind["ms"] for kind in row["layers"]] == sorted((k["ms"] for k in row["layers"]), reverse=True)
    assert (tmp_path / "layers.md").read_text() in capsys.readouterr().out


def test_what_is_missing_is_one_sentence(small_model: ModelManifest, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has no int8 ranges"):
        measure(small_model, "int8", tmp_path)
