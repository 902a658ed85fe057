"""Nodes of masks whose clock is a simulation's that is not there yet."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from diagnostic_msgs.msg import DiagnosticArray
from support.node_under_test import PATIENCE_S, RELIABLE, ros_args


@pytest.mark.parametrize(
    ("module", "name"),
    [("cloud_node", "semantic_cloud_node: cloud"), ("ground_node", "ground_grid_node: ground")],
)
def test_a_node_that_waits_for_the_simulation_s_clock_reports(stage: Any, module: str, name: str) -> None:
    reports = stage.observer.subscribe(DiagnosticArray, "/diagnostics", RELIABLE)
    stage.spawn(f"rt_segmentation.ros.{module}", *ros_args("/simulated", use_sim_time=True))
    deadline = time.monotonic() + PATIENCE_S
    while not any(status.name == f"/simulated/{name}" for report in reports for status in report.status):
        assert time.monotonic() < deadline
        stage.observer.executor.spin_once(timeout_sec=0.05)
