"""The instrument for messages: real messages, each way measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

PATIENCE_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


def test_each_way_is_measured_and_told(ros_environment: None, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.benchmarks.messages", "--out", str(tmp_path)]
    command += ["--sizes", "64x48", "1280x720"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "messages.json").read_text())["rows"]
    assert [(row["width"], row["encoding"]) for row in rows] == [
        (64, "mono8"),
        (64, "rgb8"),
        (1280, "mono8"),
        (1280, "rgb8"),
    ]
    large = rows[3]["median_ms"]
    assert all(value > 0 for value in large.values())
    page = (tmp_path / "messages.md").read_text()
    assert page.count("| 1280x720 |") == 2 and f"{large['publish_cdr']:.3f}" in page
