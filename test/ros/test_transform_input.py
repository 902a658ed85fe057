"""Transforms as messages have them, in the tree of frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped

from rt_segmentation.ros.transform_input import TransformInput


def transform(parent: str, child: str, w: float = 1.0) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp.sec = parent, 5
    message.transform.translation.x, message.transform.translation.z = 1.0, 2.0
    message.transform.rotation.w = w
    return message


def test_a_message_s_transforms_join_frames_and_bad_ones_are_said_once(observer: Any, capfd: Any) -> None:
    frames = TransformInput(observer.node, 0.1, "sensor_to_camera")
    bad = transform("base", "lost", w=0.0)
    for _ in range(3):
        frames.take(SimpleNamespace(transforms=[transform("base", "lidar"), bad]), False)
    frames.take(SimpleNamespace(transforms=[transform("/base", "camera")]), True)
    frames._missing = ""
    rotation, translation = frames.lookup("base", "lidar", 5_050_000_000)
    assert np.array_equal(rotation, np.eye(3)) and translation.tolist() == [1, 0, 2]
    assert frames.lookup("base", "camera", 0)[1].tolist() == [1, 0, 2]
    assert capfd.readouterr().err.count("ignored on /tf: the transform of 'lost' in 'base'") == 1
