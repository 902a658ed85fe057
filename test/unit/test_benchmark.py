"""The benchmark measures what it says; how fast anything is, is no test's business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rt_segmentation.benchmark.engines import Group, time_group
from rt_segmentation.benchmark.report import to_json, to_markdown
from rt_segmentation.models import ModelManifest

pytest.importorskip("torch")


def test_candidates_take_turns_and_are_put_beside_eager(small_model: ModelManifest) -> None:
    said: list[str] = []
    group = Group("enet", str(small_model.path), 64, 48, (("eager", "fp32"), ("torch", "fp32")))
    eager, torch_row = time_group(group, 0.1, said.append)
    for row in (eager, torch_row):
        assert row.problem == ""
        assert row.frames >= 3
        assert row.median_ms is not None and row.p95_ms is not None and row.median_ms <= row.p95_ms
        assert row.fps == pytest.approx(1000 / row.median_ms, rel=0.01)
        assert row.peak_memory_mb is not None and row.peak_memory_mb > 50
    assert eager.eager_ratio == 1.0
    assert eager.median_ms is not None and torch_row.median_ms is not None
    assert torch_row.eager_ratio == pytest.approx(eager.median_ms / torch_row.median_ms, rel=0.01)

    content = json.loads(json.dumps(to_json([eager, torch_row], "rt_seg benchmark engines")))
    assert content["rows"][1]["engine"] == "torch"
    assert content["machine"]["cores"] >= 1
    assert "| torch | fp32 |" in to_markdown(content)


def test_what_cannot_be_built_is_said_and_the_rest_is_timed(
    tmp_path: Path, small_model: ModelManifest
) -> None:
    group = Group("enet", str(tmp_path / "none.yaml"), 64, 48, (("torch", "fp32"),))
    (row,) = time_group(group, 0.1)
    assert "none.yaml does not exist" in row.problem
    assert row.median_ms is None
    assert "none.yaml does not exist" in to_markdown(to_json([row], "x"))
