"""The search of the node's benchmark."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rt_segmentation.benchmark.node import Run, _search


@pytest.mark.parametrize("true_hz", [3.0, 11.0, 47.0])
def test_search_ends_just_below_what_the_node_holds(true_hz: float) -> None:
    played = []

    def play(rate_hz: float) -> Run:
        played.append(rate_hz)
        drop_ratio = 0.0 if rate_hz <= true_hz else 1 - true_hz / rate_hz
        return Run(rate_hz, 100, 100, drop_ratio, rate_hz, 1, 1, 1, 1, 1, 1)

    best = _search(play, guess_hz=20.0)
    assert best.drop_ratio < 0.01
    assert true_hz / 1.4 < best.rate_hz <= true_hz * 1.01
    assert len(played) <= 8
