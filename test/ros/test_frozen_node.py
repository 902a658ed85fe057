"""A node that freezes says where and ends, so that whoever started it can start it again."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from sensor_msgs.msg import Image
from support.node_under_test import Feeder, NodeUnderTest
from support.segments import Segments

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
    segments = Segments(node.process)
    segments.look()
    assert node.process.finish() == -signal.SIGABRT
    after = node.process.output.partition("built")[2]
    assert "is frozen: no sign of life for 8 s (parameter `watchdog_s`)" in after
    # All threads, the one that is to blame among them.
    assert "frozen_engine_node.py" in after and "in infer" in after and "in run_node" in after
    assert segments.seen
    segments.wait_until_removed()


def test_a_killed_node_leaves_nothing_in_shared_memory(
    spawn: Any, observer: Any, small_model: ModelManifest
) -> None:
    """As one that runs out of memory is; a robot starts it again. systemd ends its children with it."""
    killed, other = (NodeUnderTest(spawn, observer, name, small_model) for name in ("/killed", "/other"))
    for node in (killed, other):
        node.process.wait_for("model small")
    of_killed, of_other = Segments(killed.process), Segments(other.process)
    for segments in (of_killed, of_other):
        segments.look()
        assert segments.seen
    children = Path(f"/proc/{killed.process.pid}/task/{killed.process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGTERM)
    os.kill(killed.process.pid, signal.SIGKILL)
    of_killed.wait_until_removed()
    assert of_other.left == sorted(of_other.seen), "that node goes on"
    other.process.send(signal.SIGINT)
    assert other.process.finish() == 0
    of_other.wait_until_removed()
