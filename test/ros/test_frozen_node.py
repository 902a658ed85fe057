"""A node that freezes says where and ends, so that whoever started it can start it again."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from sensor_msgs.msg import Image
from support.node_under_test import Feeder, NodeUnderTest

from rt_segmentation.models import ModelManifest


def test_a_node_that_is_frozen_in_native_code_is_ended_and_one_that_builds_is_not(
    spawn: Any, observer: Any, small_model: ModelManifest
) -> None:
    node = NodeUnderTest(
        spawn,
        observer,
        "/frozen",
        small_model,
        module="support.frozen_engine_node",
        engine="frozen",
        watchdog_s=8.0,
        parallel_frames=2,
    )
    observer.subscribe(Image, node.topic("label"), 5)
    feeder = Feeder(node)
    feeder.publish(Image(width=64, height=48, encoding="mono8", step=64, data=bytes(64 * 48)))
    # Longer than the limit, and with Python's lock.
    node.process.wait_for("built")
    assert node.process.finish() == -signal.SIGABRT
    after = node.process.output.partition("built")[2]
    assert "is frozen: no sign of life for 8 s (parameter `watchdog_s`)" in after
    # All threads, the one that is to blame among them.
    assert "frozen_engine_node.py" in after and "in infer" in after and "in run_node" in after
