"""What is published of a frame: painted and named by the classes that it was segmented with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from support.node_under_test import RELIABLE, pixels

from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.placement import place
from rt_segmentation.inference.segmenter import Segmentation
from rt_segmentation.labels import LabelSet, load_label_set
from rt_segmentation.ros.outputs import Outputs
from rt_segmentation.ros.topics import LABEL_INFO, LATCHED

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
    monkeypatch.setattr(
        "rt_segmentation.ros.outputs.LABEL_INFO", replace(LABEL_INFO, type="std_msgs/msg/String")
    )
    node = Node("segmentation_node", context=context)
    outputs = Outputs(node, CAMVID)
    colors = observer.subscribe(Image, "/segmentation_node/color", RELIABLE)
    infos = observer.subscribe(String, "/segmentation_node/label_info", LATCHED.profile())
    observer.spin_until(lambda: outputs.listened("color") and bool(infos))

    # As where the model changes between two frames, and the first of them is published after that.
    for labels in (CAMVID, CITYSCAPES, CITYSCAPES, CAMVID):
        result = segmented_with(labels)
        colors.clear()
        outputs.publish(Header(), result.frame, outputs.resize(result), 0.5, 90)
        observer.spin_until(lambda: bool(colors))
        np.testing.assert_array_equal(pixels(colors[0]), labels.palette()[LABELS])
        told = names(labels, Header())
        observer.spin_until(lambda: infos[-1] == told)  # noqa: B023
    assert len(infos) == 3
    outputs.close()
    node.destroy_node()
