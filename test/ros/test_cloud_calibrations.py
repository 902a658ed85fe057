"""Calibrations of clouds: which camera_info counts."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from sensor_msgs.msg import CameraInfo

from rt_segmentation.ros.cloud_messages import Calibrations


def info(focal_px: float, second: int) -> CameraInfo:
    k = [focal_px, 0.0, 320.0, 0.0, focal_px, 180.0, 0.0, 0.0, 1.0]
    p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    message = CameraInfo(width=640, height=360, k=k, p=p)
    message.header.stamp.sec = second
    return message


def equal_where_any_element_is(one: CameraInfo, other: object) -> bool:
    """As messages were compared before rosidl_python 0.14.5."""
    return isinstance(other, CameraInfo) and bool(np.any(one.k == other.k)) and bool(np.any(one.p == other.p))


def test_a_zoom_counts_however_messages_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CameraInfo, "__eq__", equal_where_any_element_is)
    calibrations = Calibrations(rectified=False)
    for second, focal_px in ((1, 500.0), (2, 900.0), (3, 900.0)):
        calibrations.take(info(focal_px, second))
    cameras = [calibrations.camera(second * 10**9) for second in (1, 2, 3)]
    assert [camera and camera.fx for camera in cameras] == [500.0, 900.0, 900.0]
    assert cameras[1] is cameras[2]
