"""The node is switched off and on, loads weights again when it is told to, and keeps to a rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from support.models import shuffled
from support.node_under_test import CAMERA, TORCH, Feeder, NodeUnderTest, ros_args
from support.streets import street_scene

from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.messages import image_message

WIDTH, HEIGHT = 160, 120


def street() -> Image:
    return image_message(Header(), street_scene(0, WIDTH, HEIGHT).render(1.0)[0], "rgb8")


def test_off_on_again_and_at_a_rate(stage: Any, listen: Any, small_model: ModelManifest) -> None:
    node = NodeUnderTest(stage.spawn, stage.observer, "/switch", small_model)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    mask = feeder.segment(street(), labels)

    def enable(wanted: bool) -> None:
        answer = stage.observer.call(SetBool, f"{node.name}/enable", SetBool.Request(data=wanted))
        assert (answer.success, answer.message) == (True, "")
        assert node.get_parameter("enabled") is wanted

    enable(False)
    node.spin_until(lambda: not node.listens())
    assert node.state() == "active"
    status = node.fresh_status()
    assert (status.level, status.message) == (status.OK, "active, disabled")
    enable(True)
    np.testing.assert_array_equal(feeder.segment(street(), labels), mask)
    # The parameter does the same.
    assert node.set_parameter("enabled", False).successful
    node.spin_until(lambda: not node.listens())
    assert node.set_parameter("enabled", True).successful
    feeder.segment(street(), labels)
    feeder.close()

    # What is above the rate is counted, and nothing to warn of.
    assert node.set_parameter("max_rate_hz", 2.0).successful
    node.fresh_status()
    before, count = node.count("frames received"), 40
    pace = {"rate_hz": 20.0, "count": count, "wait_for_subscribers": 1}
    camera = stage.spawn(CAMERA, *ros_args("/switch", width=WIDTH, height=HEIGHT, **pace))
    assert camera.finish() == 0
    lost = "messages lost by the middleware"
    node.spin_until(lambda: node.count("frames received") + node.count(lost) >= before + count)
    node.fresh_status()
    assert node.count("frames dropped: throttled") >= count // 2
    assert "throttled" not in "".join(status.message for status in node.statuses)
    kept = node.count("frames received") - node.count("frames dropped")
    # The last ones may still be on their way. Each that was sent once more may be one whose mask was lost.
    node.spin_until(lambda: node.count("masks published") - len(labels) <= feeder.repeated)
    assert node.count("masks published") >= len(labels)
    assert node.count("masks published") == kept


def test_weights_on_disk_are_taken_up_when_it_is_told_to(
    stage: Any, listen: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    path = tmp_path / "live.yaml"
    node = NodeUnderTest(stage.spawn, stage.observer, "/reload", shuffled(small_model, path, 0), **TORCH)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    before = feeder.segment(street(), labels)

    def reload() -> Any:
        return stage.observer.call(Trigger, f"{node.name}/reload", Trigger.Request())

    changed = shuffled(small_model, path)
    node.fresh_status()
    np.testing.assert_array_equal(feeder.segment(street(), labels), before)
    answer = reload()
    assert answer.success and f"loading model {path}" in answer.message
    node.spin_until(lambda: node.process.output.count("changed to") == 1)
    after = feeder.segment(street(), labels)
    assert not np.array_equal(after, before)

    # What cannot be loaded is refused, immediately or in the diagnostics, and the one in memory goes on.
    weights = changed.weights_path.read_bytes()
    changed.weights_path.write_bytes(weights[:-1000])
    assert reload().success
    node.spin_until(lambda: "the file is damaged or another one" in node.statuses[-1].message)
    assert node.statuses[-1].message.startswith(f"what is on the disk now is refused, and model {path}")
    manifest = path.read_bytes()
    path.write_text("network: enet\n")
    answer = reload()
    assert not answer.success and str(path) in answer.message
    np.testing.assert_array_equal(feeder.segment(street(), labels), after)
    path.write_bytes(manifest)
    changed.weights_path.write_bytes(weights)
    assert reload().success
    node.spin_until(lambda: node.process.output.count("changed to") == 2)
    assert "is refused" not in node.fresh_status().message
    np.testing.assert_array_equal(feeder.segment(street(), labels), after)
    feeder.close()
