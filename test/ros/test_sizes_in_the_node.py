"""Frames of another size in mid-stream: masks go on, and diagnostics say what is being built."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no model to name")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from support.node_under_test import Feeder, NodeUnderTest

from rt_segmentation.inference.sizes import SIGHTINGS
from rt_segmentation.models import ModelManifest

# The model's height is 120.
WIDE, SQUARE, STRIP = (64, 48), (96, 96), (640, 32)


def image(size: tuple[int, int]) -> Image:
    width, height = size
    return Image(width=width, height=height, encoding="mono8", step=width, data=bytes(width * height))


def gated_node(
    spawn: Any, observer: Any, model: ModelManifest, gates: Path, **parameters: Any
) -> tuple[NodeUnderTest, list[Image]]:
    # A cache of its own: a size that is remembered there is built while the node is configured.
    environment = {"GATES": str(gates), "XDG_CACHE_HOME": str(gates)}
    module = "support.gated_engine_node"
    node = NodeUnderTest(spawn, observer, "/sizes", model, environment, module, engine="gated", **parameters)
    return node, observer.subscribe(Image, node.topic("label"), 5)


def wait_for_status(node: NodeUnderTest, start: str) -> DiagnosticStatus:
    before = len(node.statuses)
    node.spin_until(lambda: any(s.message.startswith(start) for s in node.statuses[before:]))
    return node.statuses[-1]


def test_masks_go_on_while_an_engine_is_built_for_another_size(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    node, labels = gated_node(spawn, observer, small_model, tmp_path)
    feeder = Feeder(node)
    feeder.publish(image(WIDE))
    status = wait_for_status(node, "building the engine for 160x120")
    assert status.level == DiagnosticStatus.WARN
    assert node.values()["state"] == "building the engine for 160x120"
    (tmp_path / "160x120").touch()
    node.spin_until(lambda: len(labels) == 1)

    # An odd one or two, as a damaged header makes them.
    for _ in range(SIGHTINGS - 1):
        assert feeder.segment(image(SQUARE), labels).shape == SQUARE
    feeder.publish(image(STRIP))
    node.spin_until(lambda: node.count("frames dropped: no_engine_yet") == 1)
    node.process.wait_for("no engine is ready for that shape")
    assert feeder.segment(image(WIDE), labels).shape == WIDE[::-1]
    assert node.process.output.count("building 160x120") == 1
    assert "building 120x120" not in node.process.output
    assert not node.fresh_status().message.startswith("building")

    # One that comes again.
    assert feeder.segment(image(SQUARE), labels).shape == SQUARE
    node.process.wait_for("building 120x120")
    sentence = "building the engine for 120x120, its images are squeezed to 160x120 until then"
    assert wait_for_status(node, sentence).level == DiagnosticStatus.WARN
    for size in (WIDE, SQUARE):
        assert feeder.segment(image(size), labels).shape == size[::-1]
    assert "seen at 120x120" not in node.process.output
    (tmp_path / "120x120").touch()
    node.spin_until(lambda: node.fresh_status().level == DiagnosticStatus.OK)
    feeder.segment(image(SQUARE), labels)
    node.process.wait_for("seen at 120x120")
    assert node.count("frames dropped") == 1
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


def test_it_says_what_it_builds_while_it_is_configured(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    node, _ = gated_node(spawn, observer, small_model, tmp_path, input_width=64, input_height=48)
    assert wait_for_status(node, "building the engine for 64x48").level == DiagnosticStatus.WARN
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


def test_a_frame_that_waits_for_its_engine_is_let_go(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    node, labels = gated_node(spawn, observer, small_model, tmp_path)
    feeder = Feeder(node)
    feeder.publish(image(WIDE))
    node.process.wait_for("building 160x120")
    assert node.change_state(Transition.TRANSITION_DEACTIVATE)
    node.spin_until(lambda: node.count("frames dropped: deactivated") == 1)
    assert "[ERROR]" not in node.process.output
    assert node.change_state(Transition.TRANSITION_ACTIVATE)
    (tmp_path / "160x120").touch()
    feeder.segment(image(WIDE), labels)
    assert node.process.output.count("building 160x120") == 1
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0
