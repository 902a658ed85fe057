"""Another model while frames flow: none is lost or mixed, and what cannot run leaves what runs alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from support.models import shuffled
from support.node_under_test import (
    ENGINE,
    RELIABLE,
    TORCH,
    Feeder,
    NodeUnderTest,
    fill_cache,
    offline,
    pixels,
    stamp,
)
from support.streets import street_scene

from rt_segmentation.groups import grouping
from rt_segmentation.imaging.pictures import legend_table
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.topics import LATCHED

WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def models(small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> list[ModelManifest]:
    other = shuffled(small_model, tmp_path_factory.mktemp("other") / "other.yaml")
    fill_cache(other, (WIDTH, HEIGHT))
    return [small_model, other]


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    """Its labels are the same with any number of threads."""
    return NodeUnderTest(stage.spawn, stage.observer, "/switched", small_model, **TORCH)


def set_atomically(node: NodeUnderTest, **values: Any) -> SetParametersResult:
    parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    request = SetParametersAtomically.Request(parameters=parameters)
    service = f"{node.name}/set_parameters_atomically"
    result: SetParametersResult = node.observer.call(SetParametersAtomically, service, request).result
    return result


def street() -> Image:
    return image_message(Header(), street_scene(0, WIDTH, HEIGHT).render(1.0)[0], "rgb8")


def switched(node: NodeUnderTest, model: ModelManifest) -> Callable[[], bool]:
    return lambda: node.values().get("model") == model.name and "loading" not in node.values()


def test_frames_flow_through_switches_of_the_model(
    stage: Any, listen: Any, node: NodeUnderTest, models: list[ModelManifest]
) -> None:
    switches, scene = 4, street_scene(0, WIDTH, HEIGHT)
    moments = [image_message(Header(), scene.render(0.1 * number)[0], "rgb8") for number in range(8)]
    labels = listen(Image, node.topic("label"))
    publisher = stage.observer.node.create_publisher(Image, "/switched/image", RELIABLE)
    shown: dict[tuple[int, int], int] = {}

    def publish() -> None:
        number = len(shown) % len(moments)
        moments[number].header = Header(stamp=stage.observer.node.get_clock().now().to_msg())
        shown[stamp(moments[number])] = number
        publisher.publish(moments[number])

    flow = stage.observer.node.create_timer(0.1, publish)
    node.spin_until(lambda: bool(labels))
    for number in range(1, switches + 1):
        # Two concurrent frames in between, and one again.
        wanted = {"model": str(models[number % 2].path), "parallel_frames": 1 + number % 3}
        assert set_atomically(node, **wanted).successful
        node.spin_until(switched(node, models[number % 2]))
        before = len(labels)
        node.spin_until(lambda before=before: len(labels) >= before + 5)
    flow.cancel()
    node.fresh_status()
    received = node.count("frames received")
    node.spin_until(
        lambda: node.count("masks published") + node.count("frames dropped: replaced") == received
    )
    node.spin_until(lambda: len(labels) == node.count("masks published"))
    # Nothing but what always happens to a frame that is too much.
    assert node.count("frames dropped") == node.count("frames dropped: replaced")

    segmenters = [Segmenter.build(model, **TORCH) for model in models]
    expected = [[offline(segmenter, image).labels for segmenter in segmenters] for image in moments]
    stamps = [stamp(label) for label in labels]
    assert stamps == sorted(set(stamps))
    painters = []
    for label in labels:
        matches = [np.array_equal(pixels(label), one) for one in expected[shown[stamp(label)]]]
        assert sum(matches) == 1
        painters.append(matches.index(True))
    # Each model in its turn, and never back for a frame.
    turns = [painters[0], *(b for a, b in pairwise(painters) if a != b)]
    assert turns == [number % 2 for number in range(switches + 1)]
    assert "[ERROR]" not in node.process.output


def test_what_cannot_be_is_refused_at_once(node: NodeUnderTest) -> None:
    node.process.wait_for("active:")
    for name, value, sentence in (
        ("model", "unet", "unknown model 'unet'; there are"),
        ("model", "/no/such.yaml", "model manifest /no/such.yaml does not exist"),
        ("engine", "tensorflow", "parameter 'engine' is 'tensorflow', it must be one of"),
        ("input_width", 16, "parameter 'input_width' is 16: it must be 0 for automatic, or 32 or more"),
    ):
        refused = node.set_parameter(name, value)
        assert not refused.successful
        assert sentence in refused.reason
    # All or nothing.
    before = node.fresh_status()
    refused = set_atomically(node, input_height=96, model="unet")
    assert not refused.successful and "unknown model 'unet'" in refused.reason
    assert "loading" not in node.values()
    assert before.message == node.fresh_status().message


def test_a_load_that_fails_leaves_the_old_one_and_its_parameters(
    stage: Any, listen: Any, models: list[ModelManifest], tmp_path: Path
) -> None:
    node = NodeUnderTest(stage.spawn, stage.observer, "/failed", models[0])
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    mask = feeder.segment(street(), labels)
    broken = shuffled(models[0], tmp_path / "broken.yaml")
    broken.weights_path.write_bytes(broken.weights_path.read_bytes()[:-1000])
    assert set_atomically(node, model=str(broken.path), parallel_frames=2).successful
    node.spin_until(lambda: bool(node.statuses) and "is refused" in node.statuses[-1].message)
    status = node.fresh_status()
    assert status.level == status.WARN
    assert f"model {broken.path}, engine {ENGINE['engine']}" in status.message
    assert "the file is damaged or another one" in status.message
    assert node.get_parameter("model") == str(models[0].path)
    assert node.get_parameter("parallel_frames") == 0
    assert node.values()["model"] == models[0].name
    np.testing.assert_array_equal(feeder.segment(street(), labels), mask)
    # What is right ends the warning.
    assert node.set_parameter("model", str(models[1].path)).successful
    node.spin_until(switched(node, models[1]))
    assert "is refused" not in node.fresh_status().message
    assert not np.array_equal(feeder.segment(street(), labels), mask)
    feeder.close()


def test_groups_follow_at_once_on_the_same_engine(
    stage: Any, listen: Any, models: list[ModelManifest], tmp_path: Path
) -> None:
    node = NodeUnderTest(stage.spawn, stage.observer, "/regrouped", models[0])
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    classes = feeder.segment(street(), labels)
    path = tmp_path / "groups.yaml"
    path.write_text("groups: {all: [Sky, Building], rest: [Car]}")
    for groups in ("driving", str(path), ""):
        changed = node.process.output.count("changed to")
        assert node.set_parameter("groups", groups).successful
        node.spin_until(lambda n=changed: node.process.output.count("changed to") == n + 1)
        grouped = grouping(groups, models[0].labels())
        expected = classes if grouped is None else grouped.apply(classes)
        np.testing.assert_array_equal(feeder.segment(street(), labels), expected)
    # Of an atomic set all or nothing.
    refused = set_atomically(node, groups="sail\ning", overlay_opacity=0.25)
    assert not refused.successful and "unknown groups 'sail\\ning'" in refused.reason
    path.write_text("groups: {all: [Unicorn]}")
    refused = node.set_parameter("groups", str(path))
    assert not refused.successful and str(path) in refused.reason
    assert node.get_parameter("groups") == "" and node.get_parameter("overlay_opacity") != 0.25
    # Both together, with another engine.
    assert set_atomically(node, groups="driving", model=str(models[1].path)).successful
    node.spin_until(switched(node, models[1]))
    segmenter = Segmenter.build(models[1], **ENGINE)
    driving = grouping("driving", models[1].labels())
    assert driving is not None
    expected = driving.apply(offline(segmenter, street()).labels)
    np.testing.assert_array_equal(feeder.segment(street(), labels), expected)
    assert node.count("frames dropped") == 0 and "[ERROR]" not in node.process.output
    feeder.close()


def test_the_legend_follows_groups_where_no_image_comes(
    stage: Any, listen: Any, node: NodeUnderTest, models: list[ModelManifest]
) -> None:
    legends: list[Image] = stage.observer.subscribe(Image, node.topic("legend"), LATCHED.profile())
    # Nobody listens to masks, and then somebody does, while the camera is silent.
    for groups in ("driving", "categories", ""):
        changed = changes(node)
        assert node.set_parameter("groups", groups).successful
        node.spin_until(lambda n=changed: changes(node) == n + 1)
        grouped = grouping(groups, models[0].labels())
        table = legend_table(models[0].labels() if grouped is None else grouped.label_set)
        node.spin_until(lambda t=table: bool(legends) and np.array_equal(pixels(legends[-1]), t))
        listen(Image, node.topic("label"))
    # Each of them once.
    node.fresh_status()
    assert len(legends) <= 4
    stage.observer.unsubscribe(legends)


def gated(stage: Any, namespace: str, model: ModelManifest, folder: Path) -> NodeUnderTest:
    """A node that loads nothing while the file `loading` is in the folder."""
    for height in (96, 120, 144):
        (folder / f"{height * 4 // 3}x{height}").touch()
    module = "support.gated_engine_node"
    gates = {"GATES": str(folder)}
    return NodeUnderTest(stage.spawn, stage.observer, namespace, model, gates, module, engine="gated")


def changes(node: NodeUnderTest) -> int:
    return node.process.output.count("changed to")


def test_a_reload_takes_place_whatever_groups_are_set_meanwhile(
    stage: Any, listen: Any, models: list[ModelManifest], tmp_path: Path
) -> None:
    loading, node = tmp_path / "loading", gated(stage, "/reloaded", models[0], tmp_path)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    feeder.segment(street(), labels)
    # Changed, and changed there and back: the last choice, on an engine that was built since.
    for settings in (["driving"], ["", "driving"]):
        built, changed = node.process.output.count("building 160x120"), changes(node)
        loading.touch()
        assert stage.observer.call(Trigger, f"{node.name}/reload", Trigger.Request()).success
        for groups in settings:
            assert node.set_parameter("groups", groups).successful
        node.fresh_status()
        assert "groups driving" in node.values()["loading"]
        loading.unlink()
        node.spin_until(lambda n=changed: changes(node) == n + 1)
        assert node.process.output.count("building 160x120") > built
        assert "groups driving" in node.process.output.split("changed to")[-1]
        assert node.get_parameter("groups") == "driving"
    # It is over: groups alone need no other engine.
    built, changed = node.process.output.count("building"), changes(node)
    assert node.set_parameter("groups", "").successful
    node.spin_until(lambda: changes(node) == changed + 1)
    assert node.process.output.count("building") == built
    feeder.segment(street(), labels)
    feeder.close()


def test_groups_do_not_wait_for_a_load_that_was_taken_back(
    stage: Any, listen: Any, models: list[ModelManifest], tmp_path: Path
) -> None:
    loading, node = tmp_path / "loading", gated(stage, "/abandoned", models[0], tmp_path)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    feeder.segment(street(), labels)
    loading.touch()
    for height in (96, 0):
        assert node.set_parameter("input_height", height).successful
    assert node.set_parameter("groups", "driving").successful
    node.spin_until(lambda: changes(node) == 1)
    driving = grouping("driving", models[0].labels())
    assert driving is not None
    assert (feeder.segment(street(), labels) == driving.lookup[0]).all()
    loading.unlink()
    node.fresh_status()
    assert changes(node) == 1 and "seen at 128x96" not in node.process.output
    feeder.close()


def test_of_two_changes_the_last_wins(
    stage: Any, listen: Any, models: list[ModelManifest], tmp_path: Path
) -> None:
    loading, node = tmp_path / "loading", gated(stage, "/last", models[0], tmp_path)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    feeder.segment(street(), labels)
    loading.touch()
    for height in (96, 144):
        assert node.set_parameter("input_height", height).successful
    node.spin_until(lambda: "input_height 144" in node.values().get("loading", ""))
    # The old one works meanwhile.
    seen = node.process.output.count("seen at 160x120")
    feeder.segment(street(), labels)
    node.spin_until(lambda: node.process.output.count("seen at 160x120") == seen + 1)
    loading.unlink()
    node.spin_until(lambda: "changed to" in node.process.output)
    feeder.segment(street(), labels)
    node.process.wait_for("seen at 192x144")
    assert "seen at 128x96" not in node.process.output
    # One that is taken back does not come.
    loading.touch()
    assert node.set_parameter("input_height", 96).successful
    assert node.set_parameter("input_height", 144).successful
    loading.unlink()
    node.fresh_status()
    assert "loading" not in node.values()
    feeder.segment(street(), labels)
    assert "seen at 128x96" not in node.process.output
    feeder.close()
