"""Camera, segmentation node and cloud node as processes of their own: the labels in space against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from support.node_under_test import CAMERA, NODE, RELIABLE, ros_args, stamp

from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetClass

CLOUD = "rt_segmentation.ros.cloud_node"
SIZE = {"width": 320, "height": 180}
SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
NEAR_M, FAR_M = 10.0, 30.0
# Twice the street's half width: the widest that a road can be seen, as the camera keeps to its side.
ROAD_M = 2 * 5.5


class Frame(NamedTuple):
    """What came of one image: the truth (H, W), its depth (H, W) and calibration, and the cloud of the mask."""

    truth: np.ndarray
    depth: np.ndarray
    info: CameraInfo
    points: np.ndarray
    labels: np.ndarray
    cloud: PointCloud2


@pytest.fixture(scope="module")
def frames(stage: Any) -> Iterator[list[Frame]]:
    """Some frames of the chain, all messages of each with one stamp."""
    observer = stage.observer
    stage.spawn(CAMERA, *ros_args("/chain", **SIZE, seed=7, rate_hz=2.0))
    stage.spawn(NODE, *ros_args("/chain", model="enet", engine="torch", precision="fp32"))
    moved = [f"{name}:=segmentation_node/{name}" for name in ("label", "confidence", "camera_info")]
    remaps = [part for pair in moved for part in ("-r", pair)]
    stage.spawn(CLOUD, *ros_args("/chain", sync_tolerance_s=0.0, use_color=False), *remaps)
    truths, depths, infos, clouds = (
        observer.subscribe(kind, topic, qos)
        for kind, topic, qos in (
            (Image, "/chain/label", RELIABLE),
            (Image, "/chain/depth", RELIABLE),
            (CameraInfo, "/chain/camera_info", RELIABLE),
            (PointCloud2, "/chain/semantic_cloud_node/points", SENSOR_DATA),
        )
    )
    observer.spin_until(lambda: len(clouds) >= 3)
    by_stamp = [{stamp(message): message for message in messages} for messages in (truths, depths, infos)]
    found = []
    for cloud in clouds:
        truth, depth, info = (messages[stamp(cloud)] for messages in by_stamp)
        words = np.frombuffer(cloud.data, np.float32).reshape(cloud.height, cloud.width, 8)
        found.append(
            Frame(
                np.frombuffer(truth.data, np.uint8).reshape(truth.height, truth.width),
                np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width),
                info,
                words[..., :3],
                words.view(np.uint32)[..., 5],
                cloud,
            )
        )
    yield found


def test_each_point_is_where_the_street_is(frames: list[Frame]) -> None:
    for frame in frames:
        row, column = np.indices(frame.truth.shape)
        fx, _, cx, _, fy, cy = frame.info.k[:6]
        depth = np.where(np.isfinite(frame.depth), frame.depth, np.nan)
        expected = np.stack([(column - cx) / fx * depth, (row - cy) / fy * depth, depth], axis=-1)
        assert frame.cloud.header.frame_id == "camera"
        np.testing.assert_allclose(frame.points, expected, rtol=1e-4, atol=1e-4)


def test_labels_in_space_are_those_of_the_street(frames: list[Frame]) -> None:
    for frame in frames:
        for limit, least in ((NEAR_M, 0.9), (FAR_M, 0.85)):
            here = np.isfinite(frame.points[..., 2]) & (frame.points[..., 2] < limit)
            right = np.mean(frame.labels[here] == frame.truth[here])
            print(f"within {limit:g} m {right:.1%} of {here.sum()} points have their true class")
            assert here.sum() > 5000
            assert right >= least


def test_the_road_is_flat_and_as_wide_as_the_street_s(frames: list[Frame]) -> None:
    for frame in frames:
        x, y, z = np.moveaxis(frame.points, -1, 0)
        road = (frame.labels == StreetClass.ROAD) & (z < NEAR_M)
        on_the_ground = np.abs(y[road] - CAMERA_HEIGHT_M) < 0.01
        assert road.sum() > 3000
        assert on_the_ground.mean() > 0.93
        flat = road & (np.abs(y - CAMERA_HEIGHT_M) < 0.01)
        left, right = np.percentile(x[flat], (0.5, 99.5))
        assert right - left < ROAD_M + 0.5
