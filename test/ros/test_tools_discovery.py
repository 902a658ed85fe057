"""The instrument for discovery: processes that find each other, by each of Fast DDS's settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

PATIENCE_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


def test_each_setting_is_measured_and_told(ros_environment: None, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.benchmarks.discovery", "--starts", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "discovery.json").read_text())["rows"]
    assert [row["settings"] for row in rows] == ["Fast DDS's own", "config/fastdds.xml"]
    assert all(len(row["waits_s"]) == 1 and row["waits_s"][0] >= 0 for row in rows)
    page = (tmp_path / "discovery.md").read_text()
    assert f"| config/fastdds.xml | 1 | {rows[1]['waits_s'][0]:.2f} |" in page
