"""The instrument for what tuning gains: eager, the engine's own choice, and what was found, side by side."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.benchmark.report import Result
from rt_segmentation.inference.engines.interface import Shape
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.tuned import Setting, Tuned, remember
from rt_segmentation.models import find_model
from tools.benchmarks import tuned
from tools.benchmarks.tuned import Timed
from tools.benchmarks.tuned_worker import TUNED, found_options, make, set_engine

SIZE = (96, 64)
FOUND = Options(threads=1)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def keep(options: Options) -> None:
    fp32, int8 = (Setting("openvino", p, 1, options, 5.0, 10.0, 0.99) for p in ("fp32", "int8"))
    remember(find_model("enet"), 1, SIZE[1], SIZE[0], Tuned((replace(fp32, options=PLAIN), int8)))


def test_what_was_found_is_used_and_what_was_not_is_one_sentence() -> None:
    manifest = find_model("enet")
    assert found_options(manifest, "openvino", "int8", *SIZE) is None
    why = r"not tuned yet: `rt_seg tune enet --engine openvino --size 96x64` comes first"
    with pytest.raises(ValueError, match=why):
        make("enet", "openvino, tuned", "int8", *SIZE, 1, 1)
    keep(FOUND)
    assert found_options(manifest, "openvino", "int8", *SIZE) == FOUND
    assert found_options(manifest, "torch", "fp32", *SIZE) is None
    # What ships for this processor, or was found, does not matter to an engine that is set.
    engine: Any = set_engine(manifest, "openvino", "int8", PLAIN)
    assert engine.options(Shape(1, SIZE[1], SIZE[0], False)) == PLAIN


def test_the_page() -> None:
    row = Row(
        "enet",
        "enet.yaml",
        96,
        64,
        "openvino" + TUNED,
        "int8",
        20.0,
        30.0,
        50.0,
        eager_ratio=5.0,
        miou_loss=0.25,
    )
    rows = [
        Timed(row, "enet", "jit_avx512 for every convolution", 8.0),
        Timed(replace(row, engine="openvino", miou_loss=None), "enet", "", 8.0),
        Timed(replace(row, engine="eager", problem="no memory"), "enet", "", 8.0),
    ]
    page = tuned.to_markdown(Result(rows))
    assert "| 20.0 | 30.0 | 5.00 | 0.25 | 8.0 | jit_avx512 for every convolution |" in page
    assert "| 20.0 | 30.0 | 5.00 |  | 8.0 |  |" in page and "| eager | int8 | no memory |" in page
    assert len({line.count("|") for line in page.splitlines() if line.startswith("|")}) == 1


@pytest.mark.long
def test_all_are_timed_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rt_segmentation.benchmark.engines.ROUND_S", 0.05)
    monkeypatch.setattr(tuned, "PEAK_S", 0.0)
    keep(FOUND)
    asked = {"models": ["enet"], "sizes": ["96x64"], "engines": ["openvino", "torch"], "seconds": 0.1}
    tuned.main(Namespace(**asked, data_root=None, out=tmp_path))
    rows = json.loads((tmp_path / "tuned_torch.json").read_text())["rows"]
    assert [row["engine"] for row in rows] == [
        "eager",
        *("openvino", "openvino, tuned"),
        *("torch", "torch, tuned"),
    ]
    assert all(row["median_ms"] > 0 and not row["problem"] for row in rows[:4])
    assert rows[0]["eager_ratio"] == 1.0 and rows[2]["options"] == FOUND.describe()
    assert rows[4]["problem"].startswith("not tuned yet: `rt_seg tune enet --engine torch")
