"""The domain of processes that are to talk among themselves alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rclpy.context import Context
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier
from support.node_under_test import CAMERA, PATIENCE_S

from rt_segmentation.ros import processes


def test_a_domain_that_somebody_is_in_is_not_chosen(
    context: Context, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "zenoh" in get_rmw_implementation_identifier():
        pytest.skip("Zenoh has no ports of domains")
    # Nobody has the last domain: its ports are the last ones there are.
    monkeypatch.setattr(processes, "DOMAINS", (domain_id, 231))
    # A node of the test before may be on its way out still.
    end = time.monotonic() + PATIENCE_S
    while {processes.unused_domain() for _ in range(64)} != {domain_id, 231} and time.monotonic() < end:
        time.sleep(0.1)
    assert {processes.unused_domain() for _ in range(64)} == {domain_id, 231}
    node = Node("robot", context=context)
    assert {processes.unused_domain() for _ in range(64)} == {231}
    node.destroy_node()
    # Where all are in use, or the system does not tell, any will do.
    monkeypatch.setattr(processes, "_udp_ports", lambda: iter([7400 + 250 * 231, 7400 + 250 * domain_id]))
    assert processes.unused_domain() in (domain_id, 231)


def test_values_come_as_they_are(ros_environment: None, tmp_path: Path) -> None:
    """rcl reads what follows `:=` as YAML."""
    source = str(tmp_path / "my #1: {odd} 'name'")
    with processes.Process(
        CAMERA, {"source": source, "count": 1}, dict(os.environ), tmp_path / "log"
    ) as node:
        end = time.monotonic() + PATIENCE_S
        while node.exit_status is None and time.monotonic() < end:
            time.sleep(0.05)
        assert node.exit_status == 2
    assert f"source '{source}' is neither" in (tmp_path / "log").read_text()
