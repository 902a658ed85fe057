"""What a params file sets for a node, read as rcl reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rt_segmentation.ros.params_files import value_for

FILE = """
/**:
  ros__parameters: {cameras: [all]}
/robot/segmentation_node:
  ros__parameters: {cameras: [front, rear], model: enet}
/*/camera_node:
  ros__parameters: {cameras: [camera]}
/**/segmentation_node:
  ros__parameters: {rate: 1}
elsewhere:
  segmentation_node:
    ros__parameters: {cameras: [nested]}
odd:
  ros__parameters: 3
"""


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ("/robot/segmentation_node", ["front", "rear"]),
        ("/segmentation_node", ["all"]),
        ("/robot/camera_node", ["camera"]),
        ("/elsewhere/segmentation_node", ["nested"]),
        ("/odd", ["all"]),
    ],
)
def test_the_last_section_that_reaches_a_node_counts(tmp_path: Path, node: str, value: Any) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(FILE)
    assert value_for(path, node, "cameras") == value
    assert value_for(path, node, "nothing") is None


@pytest.mark.parametrize("text", ["[", "- 1", "", "/**: 5", "[" * 50000, "/**: &x {a: *x}"])
def test_a_file_that_is_none_sets_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert value_for(path, "/segmentation_node", "cameras") is None
