"""What is published of a frame: painted and named by the classes that it was segmented with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, Header, String
from support.node_under_test import RELIABLE, pixels

from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.imaging.pictures import legend_table
from rt_segmentation.imaging.placement import Placement, place
from rt_segmentation.inference.segmenter import ModelAnswer, Segmentation
from rt_segmentation.labels import LabelSet, load_label_set
from rt_segmentation.models import ModelManifest
from rt_segmentation.profiles import Profile
from rt_segmentation.ros.health import NO_PROFILE, NOTHING_COMPARED, NOTHING_SEEN, Health
from rt_segmentation.ros.health_parameters import HEALTH
from rt_segmentation.ros.outputs import Outputs
from rt_segmentation.ros.topics import LABEL_INFO, LATCHED
from rt_segmentation.runtime.input_health import InputHealth

CAMVID, CITYSCAPES = load_label_set("camvid11"), load_label_set("cityscapes19")
LABELS = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % 11
RGB = np.zeros((48, 64, 3), np.uint8)


def segmented_with(labels: LabelSet) -> Segmentation:
    frame = Frame.from_rgb(RGB)
    return Segmentation(frame, labels, LABELS, None, RGB, place((64, 48), (64, 48)), 0.0, 0.0)


def names(labels: LabelSet, _: Header) -> String:
    """What stands for vision_msgs/LabelInfo where that is not installed."""
    return String(data=" ".join(labels.names))


def test_a_frame_is_painted_by_what_segmented_it_and_label_info_follows(
    context: Context, observer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rt_segmentation.ros.outputs.label_info_message", names)
    as_text = replace(LABEL_INFO, type="std_msgs/msg/String")
    monkeypatch.setattr("rt_segmentation.ros.outputs.LABEL_INFO", as_text)
    node = Node("segmentation_node", context=context)
    outputs = Outputs(node, CAMVID)
    colors = observer.subscribe(Image, "/segmentation_node/color", RELIABLE)
    legends = observer.subscribe(Image, "/segmentation_node/legend", LATCHED.profile())
    infos = observer.subscribe(String, "/segmentation_node/label_info", LATCHED.profile())
    observer.spin_until(lambda: outputs.listened("color") and bool(infos) and bool(legends))

    # As where the model changes between two frames, and the first of them is published after that.
    for labels, told_legends in ((CAMVID, 1), (CITYSCAPES, 2), (CITYSCAPES, 2), (CAMVID, 3)):
        result = segmented_with(labels)
        colors.clear()
        outputs.publish(Header(), result.frame, outputs.resize(result), 0.5, 90)
        observer.spin_until(lambda: bool(colors))
        np.testing.assert_array_equal(pixels(colors[0]), labels.palette()[LABELS])
        told = names(labels, Header())
        observer.spin_until(lambda: infos[-1] == told)  # noqa: B023
        # Only the newest one is kept for whoever is slow.
        observer.spin_until(lambda: len(legends) == told_legends)  # noqa: B023
    for legend, labels in zip(legends, (CAMVID, CITYSCAPES, CAMVID)):
        np.testing.assert_array_equal(pixels(legend), legend_table(labels))
    assert len(infos) == 3
    outputs.close()
    node.destroy_node()


def test_another_region_of_the_image_is_not_blurred(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("rt_segmentation.ros.health.InputHealth", lambda: InputHealth(clock=lambda: now[0]))
    health = Health()
    parameters = {parameter.name: parameter.default for parameter in HEALTH}
    sharp = np.random.default_rng(1).integers(40, 200, (48, 64, 3), np.uint8)
    whole = place((64, 48), (64, 48))
    part = place((64, 48), (64, 48), region=Region(0, 0, 8, 6))

    def blurred(placement: Placement) -> bool:
        for _ in range(60):
            now[0] += 0.2
            frame = Frame.from_rgb(np.roll(sharp, round(now[0] * 5) % 2, 0), stamp_ns=round(now[0] * 1e9))
            rgb = placement.to_network(frame)
            health.look(Segmentation(frame, CAMVID, LABELS, None, rgb, placement, 0.0, 0.0))
        statuses, _ = health.statuses("/front", parameters.__getitem__)
        return "blurred" in statuses[0].message

    assert not blurred(whole) and not blurred(part) and not blurred(whole)
    near = part.to_network(Frame.from_rgb(sharp))
    sharp = cv2.resize(near, (64, 48))
    assert blurred(whole)


def manifest(profile: Profile | None) -> ModelManifest:
    path = Path("m.yaml")
    return ModelManifest(path, "m", "enet", "camvid11", 64, 48, "m", "", 1, 0.1, "none", profile=profile)


def test_drift_and_health_are_of_the_model_that_answered(context: Context, observer: Any) -> None:
    parameters = {parameter.name: parameter.default for parameter in HEALTH}
    node = Node("segmentation_node", context=context)
    outputs = Outputs(node, CAMVID)
    drifts: list[Float64] = observer.subscribe(Float64, "/segmentation_node/drift", RELIABLE)
    observer.spin_until(lambda: outputs.listened("drift"))

    def messages() -> list[str]:
        statuses, _ = outputs.health.statuses("/front", parameters.__getitem__)
        assert [status.name for status in statuses] == ["/front: camera", "/front: model"]
        return [status.message for status in statuses]

    def show(model: ModelManifest, labels: np.ndarray, count: int) -> None:
        result = segmented_with(CAMVID)
        for _ in range(count):
            answered = replace(result, answer=ModelAnswer(model, CAMVID, labels))
            outputs.publish(Header(), result.frame, outputs.resize(answered), 0.5, 90)

    assert messages() == [NOTHING_SEEN, NOTHING_COMPARED]
    shares = tuple(np.bincount(LABELS.ravel(), minlength=11) / LABELS.size)
    usual = manifest(Profile("the street", 100, shares, (0.0,) * 11, 0.9, 0.1, 0.2))
    show(usual, LABELS, 7)
    # Five frames are compared at least; there is none of a second model without a profile.
    observer.spin_until(lambda: len(drifts) == 3)
    assert drifts[-1].data < 0.1
    assert messages() == [
        "the images are black: 100% of their pixels are",
        "the answers are like those on the street",
    ]
    for count in range(4, 24):
        show(usual, np.zeros_like(LABELS), 1)
        observer.spin_until(lambda: len(drifts) == count)  # noqa: B023
    assert drifts[-1].data > parameters["drift.limit"]
    assert messages()[1].startswith("the answers are unlike those on the street: ")
    assert "of the pixels are Sky, usual are 9%" in messages()[1]
    show(manifest(None), LABELS, 7)
    assert messages()[1] == NO_PROFILE
    assert outputs.health.drift is None
    outputs.close()
    node.destroy_node()
