"""What a params file sets for a node, read as rcl reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rt_segmentation.ros.params_files import overriding, shared_names, value_for

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


def test_sections_count_in_the_order_in_which_rcl_has_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    # The package's own file, which is read before, has a section for all nodes.
    path.write_text(
        "/**/segmentation_node: {ros__parameters: {cameras: [front]}}\n"
        "/**: {ros__parameters: {cameras: [all]}}\n"
    )
    assert value_for(path, "/segmentation_node", "cameras") == ["front"]


@pytest.mark.parametrize(
    ("text", "beats"),
    [
        ("/r/node: {ros__parameters: {rate: 1}}\n/**/node: {ros__parameters: {model: a}}", "/**/node"),
        ("/r/node: {ros__parameters: {rate: 1}}\n/**/node: {ros__parameters: {rate: 2}}", ""),
        ("/r/node: {ros__parameters: {rate: 1}}\n/**: {ros__parameters: {model: a}}", ""),
        ("/**/node: {ros__parameters: {model: a}}\n/r/node: {ros__parameters: {model: b}}", ""),
        ("/**/node: {ros__parameters: {model: a}}", ""),
    ],
)
def test_a_section_may_beat_what_a_launch_file_adds(tmp_path: Path, text: str, beats: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert overriding(path, "/r/node", "model") == beats


@pytest.mark.parametrize("text", ["[", "- 1", "", "/**: 5", "[" * 50000, "/**: &x {a: *x}"])
def test_a_file_that_is_none_sets_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert value_for(path, "/segmentation_node", "cameras") is None


def test_what_stands_in_sections_for_all_nodes_alone_may_be_meant_for_others(tmp_path: Path) -> None:
    robot, launched = tmp_path / "robot.yaml", tmp_path / "launch_params_x1"
    robot.write_text(
        """
/**:
  ros__parameters: {image_width: 640, camera: {hz: 5, frame: {id: a}}, model: enet, jpeg_quality: 3, gain: 1}
/**/segmentation_node:
  ros__parameters: {model: lednet}
/robot/*:
  ros__parameters: {width: 3}
"""
    )
    launched.write_text("/**: {ros__parameters: {gain: 1}}")
    files = ["--params-file", str(robot), "--params-file", str(launched)]
    given = ["-p", "jpeg_quality:=9", "-p", "segmentation_node:width:=9"]
    assert shared_names(["node", "--ros-args", *files, *given]) == {
        "image_width",
        "camera.hz",
        "camera.frame.id",
    }
    assert shared_names(["node", *files]) == set()
