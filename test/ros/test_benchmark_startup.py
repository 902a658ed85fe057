"""`rt_seg benchmark startup`: real starts of the node, and what is said of one that does not start."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rt_segmentation.benchmark.report import Result
from rt_segmentation.cli import main
from rt_segmentation.commands.benchmark_startup import Row, to_markdown
from rt_segmentation.models import ModelManifest


def test_starts_are_timed_from_the_process_to_the_mask(
    ros_environment: None,
    small_model: ModelManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no quick engine")
    # The test's own domain and environment in place of the benchmark's, and one start from a warm cache.
    monkeypatch.setattr("rt_segmentation.benchmark.startup.ros_environment", lambda: dict(os.environ))
    monkeypatch.setattr("rt_segmentation.commands.benchmark_startup.ROUNDS", 1)
    command = ["benchmark", "startup", "--out", str(tmp_path), "--models", str(small_model.path)]
    chosen = ["--engines", "onnxruntime", "--precisions", "fp32", "--sizes", "160x120"]
    assert main([*command, *chosen]) == 0
    content = json.loads((tmp_path / "startup.json").read_text())
    (row,) = content["rows"]
    assert (row["network"], row["engine"], row["precision"]) == (small_model.network, "onnxruntime", "fp32")
    assert (row["width"], row["height"], row["problem"]) == (160, 120, "")
    # A Python process with ROS 2 is not there in an instant, nor for nothing.
    assert row["first_mask_s"] > 0.3
    assert row["memory_mb"] > 50
    assert row["slowest_s"] == row["first_mask_s"]
    assert row["first_latency_ms"] > 0 and row["latency_ms"] > 0
    page = (tmp_path / "startup.md").read_text()
    assert page == capsys.readouterr().out.rstrip("\n") + "\n"
    numbers = f"{row['first_latency_ms']:.0f} | {row['latency_ms']:.0f} | {row['memory_mb']:.0f} |"
    assert f"| {row['first_mask_s']:.2f} | {row['slowest_s']:.2f} | {numbers}" in page


def test_a_start_that_failed_keeps_its_reason_in_the_table() -> None:
    failed = Row("enet", "enet", "torch", "fp32", 64, 48, problem="out of luck")
    table = [line for line in to_markdown(Result([failed])).splitlines() if line.startswith("|")]
    assert table[-1].startswith("| enet | torch | fp32 | 64x48 | out of luck |")
    assert len({line.count("|") for line in table}) == 1
