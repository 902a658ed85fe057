"""Two nodes that start concurrently and share one cache, which is empty, and then damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing is built for the cache")

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.node_under_test import RELIABLE, Feeder, NodeUnderTest

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.messages import image_message

pytestmark = pytest.mark.long


def masks(spawn: Any, observer: Any, model: ModelManifest, cache: Path) -> list[np.ndarray]:
    """What two nodes that are started together make of one image; both are ended as by a crash."""
    settings: dict[str, Any] = {"engine": "onnxruntime", "input_width": 96, "input_height": 64}
    environment = {"XDG_CACHE_HOME": str(cache)}
    nodes = [
        NodeUnderTest(spawn, observer, f"/shares_{number}", model, environment, **settings)
        for number in range(2)
    ]
    found = []
    for node in nodes:
        labels = observer.subscribe(Image, node.topic("label"), RELIABLE)
        feeder = Feeder(node)
        image = image_message(Header(), StreetScene(0, 160, 120).render(0.0)[0], "rgb8")
        found.append(feeder.segment(image, labels))
        feeder.close()
        observer.unsubscribe(labels)
        assert "Traceback" not in node.process.output and "[ERROR]" not in node.process.output
    for node in nodes:
        node.process.kill()
    return found


def test_two_nodes_at_once_with_one_cache_that_is_empty_and_then_damaged(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    first, second = masks(spawn, observer, small_model, tmp_path)
    np.testing.assert_array_equal(first, second)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert files
    for number, path in enumerate(files):
        data = path.read_bytes()
        # Cut, or the same length with a bit that is another one.
        path.write_bytes(data[:-500] if number % 2 else data[:500] + bytes([data[500] ^ 1]) + data[501:])
    for mask in masks(spawn, observer, small_model, tmp_path):
        np.testing.assert_array_equal(mask, first)
    print(f"two nodes concurrently, twice: {len(files)} files of the cache damaged in between, 4 right masks")
