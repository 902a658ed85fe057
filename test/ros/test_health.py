"""Health of images and masks in the node: its statuses, drift, groups and legend, over DDS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Header
from support.node_under_test import ENGINE, RELIABLE, TORCH, Feeder, NodeUnderTest, offline, pixels
from support.streets import street_scene

from rt_segmentation.evaluation.profiling import profile_of, read_answers
from rt_segmentation.groups import load_groups
from rt_segmentation.imaging.pictures import legend_table
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.topics import LATCHED
from rt_segmentation.weights import load_weights, save_model

WIDTH, HEIGHT = 128, 96
GROUPS = load_groups("categories")


def street(time_s: float = 0.0) -> np.ndarray:
    rgb: np.ndarray = street_scene(0, WIDTH, HEIGHT).render(time_s)[0]
    return rgb


@pytest.fixture(scope="module")
def profiled(small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> ModelManifest:
    """A model whose usual answers are those to the street, and that has no other class than them."""
    segmenter = Segmenter.build(small_model, **TORCH)
    answers = list(read_answers(segmenter, [street(t / 10) for t in range(6)]))
    profile = profile_of(answers, "the street")
    # The deviations of an untrained network's answers are near zero: so are the differences that count.
    path = tmp_path_factory.mktemp("profiled") / "profiled.yaml"
    weights = load_weights(small_model)
    return save_model(
        replace(small_model, path=path, name="profiled", weights="profiled.safetensors", profile=profile),
        weights,
    )


def statuses(node: NodeUnderTest, reports: list[DiagnosticArray], part: str) -> list[DiagnosticStatus]:
    name = f"{node.name}: {part}"
    return [status for report in reports for status in report.status if status.name == name]


def test_a_black_camera_is_a_status_of_its_own_and_said_once(stage: Any, profiled: ModelManifest) -> None:
    still: dict[str, Any] = {"input.frozen_s": 0.0}
    node = NodeUnderTest(stage.spawn, stage.observer, "/healthy", profiled, **TORCH, **still)
    reports: list[DiagnosticArray] = stage.observer.subscribe(DiagnosticArray, "/diagnostics", RELIABLE)
    drifts = stage.observer.subscribe(Float64, node.topic("drift"), RELIABLE)
    feeder = Feeder(node)

    def until(rgb: np.ndarray, reached: Any) -> None:
        def fed() -> bool:
            feeder.publish(image_message(Header(), rgb, "rgb8"))
            node.spin_for(0.05)
            return bool(reached())

        node.spin_until(fed)

    def last(part: str) -> DiagnosticStatus:
        return statuses(node, reports, part)[-1]

    until(street(), lambda: len(drifts) >= 10 and last("model").message.startswith("the answers are like"))
    assert last("camera").level == DiagnosticStatus.OK
    assert 0 <= drifts[-1].data < 6
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    said = "the images are black"
    until(black, lambda: last("camera").message.startswith(said))
    assert last("camera").level == DiagnosticStatus.WARN
    until(street(), lambda: last("camera").level == DiagnosticStatus.OK)
    node.process.wait_for(f"s: {said}")
    assert node.process.output.count(said) == 2
    # Limits are parameters, and count immediately.
    assert node.set_parameter("drift.limit", 1e-9).successful
    until(street(1.0), lambda: last("model").level == DiagnosticStatus.WARN)
    assert last("model").message.startswith("the answers are unlike those on the street: ")
    assert node.set_parameter("input.black_share", 1.0).successful
    until(black, lambda: len(statuses(node, reports, "camera")) > 0)
    feeder.close()
    node.process.kill()


def test_masks_and_legend_are_the_groups(stage: Any, small_model: ModelManifest) -> None:
    node = NodeUnderTest(stage.spawn, stage.observer, "/grouped", small_model, groups="categories")
    labels: list[Image] = stage.observer.subscribe(Image, node.topic("label"), RELIABLE)
    legends: list[Image] = stage.observer.subscribe(Image, node.topic("legend"), LATCHED.profile())
    grouping = GROUPS.of(small_model.labels())
    message = image_message(Header(), street(), "rgb8")
    mask = Feeder(node).segment(message, labels)
    expected = grouping.apply(offline(Segmenter.build(small_model, **ENGINE), message).answer.labels)  # type: ignore[union-attr]
    assert mask.shape == (HEIGHT, WIDTH)
    assert set(np.unique(mask)) <= set(np.unique(expected))
    node.spin_until(lambda: bool(legends))
    np.testing.assert_array_equal(pixels(legends[-1]), legend_table(grouping.label_set))
    node.process.kill()


def test_groups_that_do_not_fit_are_one_sentence(
    stage: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("groups: {ground: [road]}")
    node = NodeUnderTest(stage.spawn, stage.observer, "/wrong", small_model, groups=path)
    node.process.wait_for(f"groups {path}: 'ground' has no class of label set 'camvid11'")
    assert node.process.finish() == 2
    assert "Traceback" not in node.process.output
