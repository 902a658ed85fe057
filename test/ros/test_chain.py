"""Camera, segmentation node and cloud node as processes of their own: labels in space against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from support.node_under_test import CAMERA, ENGINE, NODE, RELIABLE, ros_args, stamp

from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetClass
from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.environment import transport_environment

CLOUD = "rt_segmentation.ros.cloud_node"
SIZE = {"width": 256, "height": 144}
# As Nav2's semantic_segmentation_layer subscribes to masks and clouds, and to the names of the classes.
SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
NEAR_M, FAR_M = 10.0, 30.0
# Twice the street's half width: the widest that a road can be seen, as the camera keeps to its side.
ROAD_M = 2 * 5.5


class Frame(NamedTuple):
    """What came of one image: truth and depth (H, W), the calibration, and the cloud of the mask."""

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
    stage.spawn(CAMERA, *ros_args("/chain", **SIZE, seed=7, rate_hz=1.0))
    # At the images' own size: this is not about speed, and a third of the work.
    inputs = {f"input_{side}": length for side, length in SIZE.items()}
    node = stage.spawn(NODE, *ros_args("/chain", model="enet", **ENGINE, **inputs))
    moved = [f"{name}:=segmentation_node/{name}" for name in ("label", "confidence", "camera_info")]
    remaps = [part for pair in moved for part in ("-r", pair)]
    # As launched: a best-effort cloud of more than 512 kB is lost without a larger segment of shared memory.
    transport = {**transport_environment(), "FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"}
    arguments = ros_args("/chain", sync_tolerance_s=0.0, use_color=False)
    stage.spawn(CLOUD, *arguments, *remaps, **transport)
    truths, depths, infos, clouds = (
        observer.subscribe(kind, topic, qos)
        for kind, topic, qos in (
            (Image, "/chain/label", RELIABLE),
            (Image, "/chain/depth", RELIABLE),
            (CameraInfo, "/chain/camera_info", RELIABLE),
            (PointCloud2, "/chain/semantic_cloud_node/points", RELIABLE),
        )
    )
    # A busy machine takes its time for each.
    node.wait_for("active: ")

    def whole() -> list[tuple[Any, ...]]:
        """All messages of each stamp that has a cloud and its truth."""
        by_stamp = [{stamp(m): m for m in messages} for messages in (clouds, truths, depths, infos)]
        stamps = set.intersection(*(set(messages) for messages in by_stamp))
        return [tuple(messages[at] for messages in by_stamp) for at in sorted(stamps)]

    # The first ones may have come before their calibration.
    observer.spin_until(lambda: len(whole()) >= 4)
    found = []
    for cloud, truth, depth, info in whole()[1:]:
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
        for limit, least in ((NEAR_M, 0.8), (FAR_M, 0.75)):
            here = np.isfinite(frame.points[..., 2]) & (frame.points[..., 2] < limit)
            right = np.mean(frame.labels[here] == frame.truth[here])
            print(f"within {limit:g} m {right:.1%} of {here.sum()} points have their true class")
            assert here.sum() > 4000
            assert right >= least


def test_the_road_is_flat_and_as_wide_as_the_street_s(frames: list[Frame]) -> None:
    for frame in frames:
        x, y, z = np.moveaxis(frame.points, -1, 0)
        road = (frame.labels == StreetClass.ROAD) & (z < NEAR_M)
        on_the_ground = np.abs(y[road] - CAMERA_HEIGHT_M) < 0.01
        assert road.sum() > 2000
        assert on_the_ground.mean() > 0.85
        flat = road & (np.abs(y - CAMERA_HEIGHT_M) < 0.01)
        left, right = np.percentile(x[flat], (0.5, 99.5))
        assert right - left < ROAD_M + 0.5


def test_nav2_s_semantic_layer_gets_what_it_takes(frames: list[Frame], stage: Any) -> None:
    filters = pytest.importorskip("message_filters", reason="message_filters is not installed")
    node, synchronised = stage.observer.node, []
    subscribers = [
        filters.Subscriber(node, kind, f"/chain/{topic}", qos_profile=SENSOR_DATA)
        for kind, topic in (
            (Image, "segmentation_node/label"),
            (Image, "segmentation_node/confidence"),
            (PointCloud2, "semantic_cloud_node/points"),
        )
    ]
    # The layer's exact synchroniser, and its queue.
    filters.TimeSynchronizer(subscribers, 1000).registerCallback(lambda *found: synchronised.append(found))
    stage.observer.spin_until(lambda: len(synchronised) >= 2)
    for label, confidence, cloud in synchronised:
        assert stamp(label) == stamp(confidence) == stamp(cloud)
        assert label.header.frame_id == cloud.header.frame_id == "camera"
        assert label.encoding == confidence.encoding == "mono8"
        # It reads the pixels without a look at `step`.
        for image in (label, confidence):
            assert len(image.data) == image.width * image.height == cloud.width * cloud.height
        fields = {field.name: field.datatype for field in cloud.fields}
        assert all(fields[name] == PointField.FLOAT32 for name in "xyz")
        points = np.frombuffer(cloud.data, np.float32).reshape(-1, 8)
        labels = points.view(np.uint32)[:, 5]
        np.testing.assert_array_equal(labels, np.frombuffer(label.data, np.uint8))
    for subscriber in subscribers:
        node.destroy_subscription(subscriber.sub)


def test_nav2_s_semantic_layer_learns_the_classes_names_however_late_it_comes(
    frames: list[Frame], stage: Any
) -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    infos = stage.observer.subscribe(messages.LabelInfo, "/chain/segmentation_node/label_info", LATCHED)
    stage.observer.spin_until(lambda: bool(infos))
    labels = load_label_set("camvid11")
    assert [(c.class_id, c.class_name) for c in infos[0].class_map] == [
        (c.id, c.name) for c in labels.classes
    ]
