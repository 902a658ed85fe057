"""The semantic cloud node as a process of its own, over DDS."""

from __future__ import annotations

import importlib.util
import math
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2, PointField
from support.cloud_under_test import (
    CERTAIN,
    COLOUR,
    CX,
    CY,
    FX,
    FY,
    HEIGHT,
    LABELS,
    METRES,
    MODULE,
    PATIENCE_S,
    RNG,
    WIDTH,
    Cloud,
    calibration,
    frame,
    of,
)
from support.node_under_test import CAMERA, RELIABLE, ros_args

from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M

# As Nav2's semantic layer subscribes.
SENSOR_DATA = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


def read(cloud: PointCloud2, number: int) -> tuple[float, float, float, int, int, float]:
    """x, y, z, 0xRRGGBB, label and confidence by the message's own fields."""
    offsets = {field.name: (field.offset, field.datatype) for field in cloud.fields}
    assert {name: kind for name, (_, kind) in offsets.items()} == {
        "x": PointField.FLOAT32,
        "y": PointField.FLOAT32,
        "z": PointField.FLOAT32,
        "rgb": PointField.FLOAT32,
        "label": PointField.UINT32,
        "confidence": PointField.FLOAT32,
    }
    start = number * cloud.point_step
    data = bytes(cloud.data[start : start + cloud.point_step])
    kinds = {"rgb": "<I", "label": "<I"}
    values = [
        struct.unpack_from(kinds.get(name, "<f"), data, offsets[name][0])[0]
        for name in ("x", "y", "z", "rgb", "label", "confidence")
    ]
    return tuple(values)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def depth_node(stage: Any) -> Iterator[Cloud]:
    yield Cloud(stage, "/from_depth", sync_tolerance_s=0.05)


@pytest.fixture(scope="module")
def lidar_node(stage: Any) -> Iterator[Cloud]:
    # The lidar looks along its x, the camera along its z: a turn that takes x to z, y to -x and z to -y.
    yield Cloud(
        stage,
        "/from_lidar",
        geometry="points",
        sensor_to_camera="[0.0, 0.5, 0.0, 0.5, -0.5, 0.5, 0.5]",
        drop_classes="[tree]",
        label_set="camvid11",
        sync_tolerance_s=0.05,
    )


def test_label_depth_and_camera_info_become_a_cloud(depth_node: Cloud) -> None:
    messages = frame()
    cloud = depth_node.made_of(**messages)
    assert cloud.header == messages["depth"].header
    assert (cloud.width, cloud.height, cloud.point_step) == (WIDTH, HEIGHT, 32)
    assert cloud.row_step == 32 * WIDTH and len(cloud.data) == 32 * WIDTH * HEIGHT
    assert not cloud.is_dense and not cloud.is_bigendian
    for row in range(0, HEIGHT, 3):
        for column in range(WIDTH):
            x, y, z, rgb, label, confidence = read(cloud, row * WIDTH + column)
            metres = float(METRES[row, column])
            if math.isnan(metres):
                assert math.isnan(x) and math.isnan(y) and math.isnan(z)
            else:
                assert z == pytest.approx(metres)
                assert x == pytest.approx((column - CX) / FX * metres, abs=1e-5)
                assert y == pytest.approx((row - CY) / FY * metres, abs=1e-5)
            red, green, blue = (int(value) for value in COLOUR[row, column])
            assert (rgb, label) == (red << 16 | green << 8 | blue, LABELS[row, column])
            assert confidence == pytest.approx(CERTAIN[row, column] / 255, abs=1e-6)


def test_millimetres_are_metres(depth_node: Cloud) -> None:
    millimetres = np.full((HEIGHT, WIDTH), 2500, np.uint16)
    millimetres[0, 0] = 0
    cloud = depth_node.made_of(**frame(depth=of(millimetres, "16UC1")))
    assert read(cloud, 1)[2] == pytest.approx(2.5)
    assert math.isnan(read(cloud, 0)[2])


def test_rows_of_depth_may_end_anywhere(depth_node: Cloud) -> None:
    # Each float but those of the first row lies across the bounds of four bytes.
    rows = np.zeros((HEIGHT, 4 * WIDTH + 1), np.uint8)
    rows[:, :-1] = METRES.view(np.uint8)
    message = of(METRES, "32FC1")
    message.step, message.data = rows.shape[1], rows.tobytes()
    cloud = depth_node.made_of(**frame(depth=message))
    assert read(cloud, 7 * WIDTH + 9)[2] == pytest.approx(float(METRES[7, 9]))


def test_stamps_within_the_tolerance_go_together_and_others_are_named(depth_node: Cloud) -> None:
    messages = frame()
    cloud = depth_node.made_of(late={"depth": 0.04}, **messages)
    assert cloud.header.stamp == messages["depth"].header.stamp != messages["label"].header.stamp
    # Until no cloud has come for long enough that the rate is 0.
    before = len(depth_node.clouds)
    deadline = time.monotonic() + PATIENCE_S
    while "3.000 s ahead of those on /from_depth/label" not in depth_node.process.output:
        assert time.monotonic() < deadline, depth_node.process.output
        depth_node.send(late={"depth": 3.0}, **frame())
        depth_node.spin_for(0.3)
    depth_node.says("the stamps on /from_depth/depth are 3.000 s ahead of those on /from_depth/label")
    assert len(depth_node.clouds) == before


@pytest.mark.parametrize(
    ("reason", "changes", "sentence"),
    [
        (
            "bad_size",
            {"depth": of(METRES[:-4], "32FC1")},
            "The depth image is 48x36 and the mask 48x40 px; both must be of one size and registered",
        ),
        (
            "unknown_encoding",
            {"depth": of(COLOUR, "rgb8")},
            "The depth image's encoding is 'rgb8'; it must be 16UC1 (mm) or 32FC1 (m).",
        ),
        (
            "unknown_encoding",
            {"label": of(COLOUR, "rgb8")},
            "The mask's encoding is 'rgb8'; it must be mono8.",
        ),
        ("bad_calibration", {"camera_info": calibration(focal=0.0)}, "the camera must be calibrated"),
        (
            "bad_size",
            {"camera_info": calibration(width=2 * WIDTH)},
            "The camera_info is of 96x40 px and the mask of 48x40 px; give the node the mask's own",
        ),
    ],
)
def test_what_cannot_be_used_has_its_sentence_and_the_node_goes_on(
    depth_node: Cloud, reason: str, changes: dict[str, Any], sentence: str
) -> None:
    key = f"sets dropped: {reason}"
    before = int(depth_node.values().get(key, 0))
    depth_node.send(**frame(**changes))
    depth_node.says(sentence)
    depth_node.spin_until(lambda: int(depth_node.values().get(key, 0)) > before)
    assert depth_node.made_of(**frame()).width == WIDTH


def test_depth_of_another_camera_is_not_registered(depth_node: Cloud) -> None:
    messages = frame()
    messages["depth"].header.frame_id = "infrared"
    depth_node.send(**messages)
    depth_node.says("The depth image is in frame 'infrared' and the mask in 'lens'")


def test_a_topic_that_stops_is_named(depth_node: Cloud) -> None:
    depth_node.says("nothing on /from_depth/depth for")


def test_what_clouds_wait_for_though_they_need_it_not_is_named_with_its_parameter(depth_node: Cloud) -> None:
    sentence = "clouds wait for it, unless use_confidence is false"
    deadline = time.monotonic() + PATIENCE_S
    while sentence not in depth_node.process.output:
        assert time.monotonic() < deadline, depth_node.process.output
        depth_node.send(**frame(confidence=None))
        depth_node.spin_for(0.3)
    assert "use_color is false" not in depth_node.process.output


def lidar(points: np.ndarray, names: str = "xyz") -> PointCloud2:
    fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(names)]
    message = PointCloud2(
        height=1, width=len(points), fields=fields, point_step=16, row_step=16 * len(points)
    )
    message.data.frombytes(np.pad(points.astype(np.float32), ((0, 0), (0, 1))).tobytes())
    message.header.frame_id = "lidar"
    return message


def test_a_lidar_cloud_gets_labels_and_loses_a_class_by_name(lidar_node: Cloud) -> None:
    labels = np.full((HEIGHT, WIDTH), 3, np.uint8)
    labels[:, 24:] = 5  # trees on the right
    points = np.array([[4.0, 0.4, 0.5], [4.0, -0.4, 0.5], [-4.0, 0.0, 0.0], [math.nan, 0.0, 0.0]])
    messages = frame(depth=None, label=of(labels, "mono8"), points=lidar(points))
    cloud = lidar_node.made_of(**messages)
    assert cloud.header == messages["points"].header
    assert (cloud.height, cloud.width) == (1, 2)
    x, y, z, rgb, label, confidence = read(cloud, 0)
    assert (x, y, z, label) == pytest.approx((4.0, 0.4, 0.5, 3))
    # It lies 0.4 m to the left and, as the lidar is 0.5 m below the camera, at the camera's height.
    row, column = round(CY), round(CX - 0.4 / 4 * FX)
    red, green, blue = (int(value) for value in COLOUR[row, column])
    assert rgb == red << 16 | green << 8 | blue
    assert confidence == pytest.approx(CERTAIN[row, column] / 255, abs=1e-6)
    assert read(cloud, 1)[3:5] == (0, 255)


def test_a_camera_s_own_cloud_keeps_its_rows_and_columns(lidar_node: Cloud) -> None:
    points = RNG.normal(size=(HEIGHT * WIDTH, 3))
    message = lidar(points)
    message.header.frame_id = ""
    message.height, message.width, message.row_step = HEIGHT, WIDTH, 16 * WIDTH
    cloud = lidar_node.made_of(**frame(depth=None, points=message))
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    trees = [number for number in range(0, HEIGHT * WIDTH, 7) if LABELS.reshape(-1)[number] == 5]
    assert trees and all(math.isnan(read(cloud, number)[0]) for number in trees)
    assert read(cloud, 9)[:3] == pytest.approx(points[9].tolist(), abs=1e-6)


def test_a_cloud_without_z_has_its_sentence(lidar_node: Cloud) -> None:
    lidar_node.send(**frame(depth=None, points=lidar(np.zeros((5, 3)), "xyi")))
    lidar_node.says("The cloud has no field z; it has x, y, i, and must have x, y and z.")


def test_the_street_s_labels_are_where_they_belong_in_space(stage: Any) -> None:
    size = {"width": 128, "height": 72}
    stage.spawn(CAMERA, *ros_args("/street", **size, rate_hz=5.0))
    # The street's own labels stand for a segmentation's.
    moved = [f"/street/{name}" for name in ("label", "depth", "camera_info")]
    remaps = [part for topic in moved for part in ("-r", f"{topic.split('/')[-1]}:={topic}")]
    stage.spawn(MODULE, *ros_args("/street_cloud", max_range_m=40.0), *remaps)
    topic = "/street_cloud/semantic_cloud_node/points"
    clouds = stage.observer.subscribe(PointCloud2, topic, SENSOR_DATA)
    checked = 0

    def lies_on_the_ground() -> bool:
        nonlocal checked
        for cloud in clouds[checked:]:
            checked += 1
            words = np.frombuffer(cloud.data, np.float32).reshape(-1, 8)
            road = words[(words.view(np.uint32)[:, 5] == 3) & np.isfinite(words[:, 2])]
            assert (cloud.width, cloud.height, cloud.header.frame_id) == (128, 72, "camera")
            # A camera_info that comes after its mask is a frame late, and the horizon nods.
            if len(road) > 500 and np.abs(road[:, 1] - CAMERA_HEIGHT_M).max() < 0.001:
                return True
        return False

    stage.observer.spin_until(lies_on_the_ground)


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is not None, reason="tf2_msgs is installed")
def test_without_tf2_msgs_a_lidar_says_what_to_install(stage: Any) -> None:
    node = Cloud(stage, "/without_tf", geometry="points")
    node.send(**frame(depth=None, points=lidar(np.ones((5, 3)))))
    node.says("/tf cannot be read, as tf2_msgs is not installed: sudo apt install")


def test_tf_places_a_lidar_or_says_why_not(stage: Any) -> None:
    messages = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed")
    node = Cloud(stage, "/with_tf", geometry="points")
    frames = stage.observer.node.create_publisher(messages.TFMessage, "/tf", RELIABLE)
    sweep = np.array([[4.0, 0.4, 0.5], [math.nan, 0.0, 0.0]])

    node.spin_until(lambda: frames.get_subscription_count() > 0)

    def place(stamp_s: int) -> None:
        transform = TransformStamped(child_frame_id="lidar")
        transform.header.frame_id, transform.header.stamp.sec = "lens", stamp_s
        turn = transform.transform.rotation
        turn.x, turn.y, turn.z, turn.w = 0.5, -0.5, 0.5, 0.5
        frames.publish(messages.TFMessage(transforms=[transform]))
        node.spin_for(0.5)

    node.send(**frame(depth=None, points=lidar(sweep)))
    node.says("tf has no frame 'lens'; it has no frame at all")
    place(2000)
    node.send(**frame(depth=None, points=lidar(sweep)))
    node.says("newer than the sensor's message: that is too old, or tf is from the future")
    place(1030)
    cloud = node.made_of(**frame(depth=None, points=lidar(sweep)))
    row, column = round(CY - 0.5 / 4 * FY), round(CX - 0.4 / 4 * FX)
    assert read(cloud, 0)[4] == LABELS[row, column] and read(cloud, 1)[4] == 255


def test_a_bad_parameter_stops_the_start(stage: Any) -> None:
    process = stage.spawn(MODULE, *ros_args("/refused", drop_classes="[tree]"))
    assert process.finish() == 2
    sentence = "parameter 'drop_classes' holds 'tree', it must be an id from 0 to 255 or a class's name"
    assert sentence in process.output
    assert "Traceback" not in process.output
