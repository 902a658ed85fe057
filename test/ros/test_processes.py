"""The domain of processes that are to talk among themselves alone."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rclpy.context import Context
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

from rt_segmentation.ros import processes


def test_a_domain_that_somebody_is_in_is_not_chosen(
    context: Context, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "zenoh" in get_rmw_implementation_identifier():
        pytest.skip("Zenoh has no ports of domains")
    # Nobody has the last domain: its ports are the last ones there are.
    monkeypatch.setattr(processes, "DOMAINS", (domain_id, 231))
    assert {processes.unused_domain() for _ in range(64)} == {domain_id, 231}
    node = Node("robot", context=context)
    assert {processes.unused_domain() for _ in range(64)} == {231}
    node.destroy_node()
    # Where all are in use, or the system does not tell, any will do.
    monkeypatch.setattr(processes, "_udp_ports", lambda: iter([7400 + 250 * 231, 7400 + 250 * domain_id]))
    assert processes.unused_domain() in (domain_id, 231)
