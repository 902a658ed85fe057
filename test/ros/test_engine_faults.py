"""An engine that raises, answers nonsense or hangs: which frames are lost, and that the node lives on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no model to name")

from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from support.node_under_test import Feeder, NodeUnderTest

from rt_segmentation.groups import grouping
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.running_model import MAX_HANGS

WIDTH, HEIGHT = 64, 48


def image() -> Image:
    return Image(width=WIDTH, height=HEIGHT, encoding="mono8", step=WIDTH, data=bytes(WIDTH * HEIGHT))


class Faults:
    """A node whose engine fails as it is told to."""

    def __init__(self, spawn: Any, observer: Any, model: ModelManifest, folder: Path) -> None:
        self.fault, self.release = folder / "fault", folder / "release"
        environment = {"FAULT": str(self.fault), "RELEASE": str(self.release), "XDG_CACHE_HOME": str(folder)}
        module = "support.faulty_engine_node"
        settings: dict[str, Any] = {"engine": "faulty", "input_width": WIDTH, "input_height": HEIGHT}
        settings["engine_timeout_s"] = 1.0
        self.node = NodeUnderTest(spawn, observer, "/engine", model, environment, module, **settings)
        self.labels: list[Image] = observer.subscribe(Image, self.node.topic("label"), 10)
        self.feeder = Feeder(self.node)

    def good(self, label: int = 1) -> None:
        """A frame has its mask."""
        before = len(self.labels)
        mask = self.feeder.segment(image(), self.labels)
        assert len(self.labels) == before + 1 and (mask == label).all()

    def bad(self, fault: str) -> None:
        """Give the engine a frame at which it fails."""
        self.fault.write_text(fault)
        self.feeder.publish(image())
        self.node.spin_until(lambda: not self.fault.exists())


@pytest.fixture(scope="module")
def faults(
    stage: Any, small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Faults]:
    faults = Faults(stage.spawn, stage.observer, small_model, tmp_path_factory.mktemp("faults"))
    faults.good()
    yield faults
    faults.feeder.close()


# What is said of each.
FAULTS = {
    "raise": "RuntimeError: the engine is out of luck",
    "engine error": "the device is gone",
    "memory": "Unable to allocate 4.00 EiB",
    "shape": "engine 'faulty' gave labels of uint8 and shape (1, 40, 64); they must be uint8 of shape",
    "type": "engine 'faulty' gave labels of float32 and shape (1, 48, 64)",
    "no array": "engine 'faulty' gave NoneType for labels",
}


def test_an_engine_that_fails_costs_the_frame_it_fails_at(faults: Faults) -> None:
    for fault in FAULTS:
        faults.bad(fault)
        faults.good()
    node = faults.node
    node.spin_until(lambda: node.count("frames dropped: failed") == len(FAULTS))
    assert node.count("frames dropped") == len(FAULTS)
    assert len(faults.labels) >= len(FAULTS) + 1
    said = "".join(status.message for status in node.statuses) + node.process.output
    assert FAULTS["raise"] in said and FAULTS["no array"] in said
    print(f"{len(FAULTS)} failures of the engine: {len(FAULTS)} frames lost, {len(faults.labels)} masks")


def test_an_engine_that_hangs_is_replaced_while_the_node_answers(faults: Faults) -> None:
    node, built = faults.node, faults.node.process.output.count("an engine is built")
    # The last frame may not be in a status yet.
    node.fresh_status()
    received = node.count("frames received")
    assert node.set_parameter("engine_timeout_s", 0.0).successful
    faults.fault.write_text("hang")
    faults.feeder.publish(image())
    node.process.wait_for("the engine hangs")
    # It answers meanwhile.
    assert node.state() == "active"
    # One that waits behind it is lost as well.
    faults.feeder.publish(image())
    node.spin_until(lambda: node.count("frames received") == received + 2)
    assert node.count("frames dropped: hung") == 0
    assert node.set_parameter("engine_timeout_s", 1.0).successful
    node.spin_until(lambda: node.count("frames dropped: hung") == 2)
    node.fresh_status()
    sentence = "the engine gave no answer for 1 s (parameter `engine_timeout_s`), 2 frames lost"
    assert any(sentence in status.message for status in node.statuses)
    node.process.wait_for(sentence)
    node.spin_until(lambda: node.process.output.count("an engine is built") == built + 1)
    node.spin_until(lambda: "engines rebuilt after they hung" in node.values())
    faults.good()
    # What the one that hung says in the end is no mask of anybody's.
    before = len(faults.labels)
    faults.release.touch()
    faults.good()
    node.fresh_status()
    faults.release.unlink()
    assert len(faults.labels) == before + 1
    lost = "messages lost by the middleware"
    assert node.count(lost) == 0
    assert node.count("frames received") == node.count("masks published") + node.count("frames dropped")


def test_a_transition_does_not_wait_for_an_engine_that_hangs(faults: Faults) -> None:
    node = faults.node
    before = node.count("frames dropped: hung")
    faults.fault.write_text("hang")
    written = node.process.output.count("the engine hangs")
    faults.feeder.publish(image())
    node.spin_until(lambda: node.process.output.count("the engine hangs") > written)
    assert node.change_state(Transition.TRANSITION_DEACTIVATE)
    node.spin_until(lambda: node.count("frames dropped: hung") == before + 1)
    assert node.change_state(Transition.TRANSITION_ACTIVATE)
    node.spin_until(lambda: node.values().get("state", "").startswith("active"))
    faults.good()


def test_a_change_of_what_runs_does_not_wait_for_an_engine_that_hangs(faults: Faults) -> None:
    node = faults.node
    node.fresh_status()
    built, hung = node.process.output.count("an engine is built"), node.count("frames dropped: hung")
    rebuilt = node.count("engines rebuilt after they hung")
    # Another engine is there before this one is given up.
    assert node.set_parameter("engine_timeout_s", 0.0).successful
    faults.fault.write_text("hang")
    written = node.process.output.count("the engine hangs")
    faults.feeder.publish(image())
    node.spin_until(lambda: node.process.output.count("the engine hangs") > written)
    changed = node.process.output.count("changed to")
    assert node.set_parameter("input_height", HEIGHT + 8).successful
    node.spin_until(lambda: node.process.output.count("changed to") == changed + 1)
    assert node.set_parameter("engine_timeout_s", 1.0).successful
    node.spin_until(lambda: node.count("frames dropped: hung") == hung + 1)
    faults.good()
    assert "the engine before gave no answer for 1 s" in node.process.output
    # It was built for the change, and not once more.
    node.fresh_status()
    assert node.process.output.count("an engine is built") == built + 1
    assert node.count("engines rebuilt after they hung") == rebuilt
    assert node.set_parameter("input_height", HEIGHT).successful
    node.spin_until(lambda: node.process.output.count("changed to") == changed + 2)
    faults.good()


@pytest.mark.long
def test_engines_that_hang_one_after_the_other_are_not_built_for_ever(
    faults: Faults, small_model: ModelManifest
) -> None:
    node = faults.node
    faults.fault.write_text("hang always")
    seen = node.process.output.count("the engine hangs")
    for number in range(MAX_HANGS + 1):
        hung = node.count("frames dropped: hung")
        faults.feeder.publish(image())
        node.spin_until(lambda n=number: node.process.output.count("the engine hangs") == seen + n + 1)
        node.spin_until(lambda h=hung: node.count("frames dropped: hung") > h)
        if number < MAX_HANGS:
            node.spin_until(lambda: node.values().get("state", "").startswith("active"))
    sentence = f"{MAX_HANGS + 1} have hung in a row, and no other is built until"
    node.spin_until(lambda: sentence in node.statuses[-1].message)
    # Images are counted, and somebody may mend it.
    dropped = node.count("frames dropped: hung")
    faults.feeder.publish(image())
    node.spin_until(lambda: node.count("frames dropped: hung") == dropped + 1)
    faults.fault.unlink()
    # Not what hung with other groups, but an engine that is built.
    assert node.set_parameter("groups", "driving").successful
    node.spin_until(lambda: node.values().get("state", "").startswith("active"))
    driving = grouping("driving", small_model.labels())
    assert driving is not None
    faults.good(driving.lookup[1])
    node.fresh_status()
    assert node.count("frames received") == node.count("masks published") + node.count("frames dropped")
    node.process.send(signal.SIGINT)
    # Threads of engines that hang do not hold up the end.
    assert node.process.finish() == 0
    assert "Traceback" not in node.process.output
    counted = {key: value for key, value in node.values().items() if "frames" in key or "masks" in key}
    print(f"engines that hang: {counted}")
