"""The example mask_subscriber.py, beside a publisher of label images over DDS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.messages import image_message


def test_mask_subscriber(observer: Any, spawn: Any) -> None:
    labels = np.full((30, 40), 255, np.uint8)
    labels[:12] = load_label_set("camvid11").names.index("Road")
    publisher = observer.node.create_publisher(Image, "segmentation_node/label", 1)
    process = spawn("examples.mask_subscriber")

    def said() -> bool:
        publisher.publish(image_message(Header(), labels, "mono8"))
        return "road: 40%" in process.output or not process.is_running()

    observer.spin_until(said)
    assert "road: 40%" in process.output
