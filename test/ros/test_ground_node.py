"""The ground grid node as a process of its own, over DDS."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from std_msgs.msg import Header
from support.node_under_test import CAMERA, RELIABLE, ros_args

from rt_segmentation.groups import GroupsError, ids_of, load_groups
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.ground import BLOCKED, FREE, UNSEEN, GridSpec, GroundView
from rt_segmentation.ros import ground_messages
from rt_segmentation.ros.messages import image_message
from rt_segmentation.runtime.transforms import TransformError

MODULE = "rt_segmentation.ros.ground_node"
HEIGHT, WIDTH, FOCAL, CX, CY, HIGH_M = 60, 80, 60.0, 39.5, 20.0, 1.2
PATIENCE_S = 90.0
# Where a camera that looks ahead is, 1.2 m over the frame and 0.4 m before it.
POSE = f"[0.4, 0.0, {HIGH_M}, -0.5, 0.5, -0.5, 0.5]"
UP = "[0.0, 0.0, 1.2, 0.0, 0.0, 0.0, 1.0]"


class Ground:
    """The node, what feeds it, and what it says."""

    def __init__(self, stage: Any, namespace: str, **parameters: Any) -> None:
        self._observer, self._namespace, self._second = stage.observer, namespace, 0
        node = stage.observer.node
        types = {"label": Image, "camera_info": CameraInfo}
        self._publishers = {
            name: node.create_publisher(message_type, f"{namespace}/{name}", RELIABLE)
            for name, message_type in types.items()
        }
        self._reports = stage.observer.subscribe(DiagnosticArray, "/diagnostics", RELIABLE)
        self.process = stage.spawn(MODULE, *ros_args(namespace, **parameters))
        topic = f"{namespace}/ground_grid_node/scan"
        self.scans: list[LaserScan] = stage.observer.subscribe(LaserScan, topic, RELIABLE)
        self.grids: list[Any] = []
        if importlib.util.find_spec("nav_msgs") is not None:
            grid = importlib.import_module("nav_msgs.msg").OccupancyGrid
            self.grids = stage.observer.subscribe(grid, f"{namespace}/ground_grid_node/grid", RELIABLE)
        self.spin_until(lambda: all(p.get_subscription_count() for p in self._publishers.values()))
        # A match is known here before it is there.
        over = time.monotonic() + 0.5
        self.spin_until(lambda: time.monotonic() > over)

    def spin_until(self, reached: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > deadline or not self.process.is_running():
                raise AssertionError(f"not reached; {self.process.output}")
            self._observer.executor.spin_once(timeout_sec=0.05)

    def send(self, label: Image, info: CameraInfo | None, frame_id: str = "lens") -> None:
        self._second += 10
        for name, message in (("camera_info", info), ("label", label)):
            if message is not None:
                message.header.stamp.sec, message.header.frame_id = 1000 + self._second, frame_id
                self._publishers[name].publish(message)

    def says(self, sentence: str) -> None:
        """Wait until the sentence is in the log and in the diagnostics, as a warning."""
        self.process.wait_for(sentence)
        name = f"{self._namespace}/ground_grid_node: ground"
        self.spin_until(
            lambda: any(
                status.name == name and sentence in status.message and status.level == b"\x01"
                for report in self._reports
                for status in report.status
            )
        )


def mask(labels: np.ndarray, encoding: str = "mono8") -> Image:
    return image_message(Header(), labels, encoding)


def road_to(distance_m: float) -> np.ndarray:
    """Road (3) as far as a wall (1), of a level camera."""
    labels = np.full((HEIGHT, WIDTH), 3, np.uint8)
    labels[: math.ceil(CY + FOCAL * HIGH_M / distance_m)] = 1
    return labels


def calibration(width: int = WIDTH) -> CameraInfo:
    k = [FOCAL, 0.0, CX, 0.0, FOCAL, CY, 0.0, 0.0, 1.0]
    return CameraInfo(width=width, height=HEIGHT, k=k, p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0])


@pytest.fixture(scope="module")
def ground(stage: Any) -> Iterator[Ground]:
    yield Ground(
        stage,
        "/ground",
        camera_in_ground=POSE,
        label_set="camvid11",
        ground_frame="base_footprint",
        ground_range_m=10.0,
        x_max_m=10.0,
    )


def test_a_mask_becomes_a_scan_of_free_ranges_and_a_grid(ground: Ground) -> None:
    label = mask(road_to(4.0))
    ground.send(label, calibration())
    ground.spin_until(lambda: ground.scans)
    scan = ground.scans[-1]
    assert scan.header.stamp == label.header.stamp and scan.header.frame_id == "lens_ground"
    assert len(scan.ranges) == WIDTH and scan.range_max == pytest.approx(10.0)
    angles = scan.angle_min + scan.angle_increment * np.arange(WIDTH)
    assert scan.angle_max == pytest.approx(angles[-1], abs=1e-5)
    assert angles[0] == pytest.approx(-angles[-1], abs=0.02) and angles[0] < -0.5
    ahead = np.array(scan.ranges) * np.cos(angles)
    # A row of the image is 0.2 m there.
    assert np.abs(ahead - 4.0).max() < 0.25
    if importlib.util.find_spec("nav_msgs") is None:
        assert "~/grid cannot be published, as nav_msgs is not installed: sudo apt" in ground.process.output
        return
    ground.spin_until(lambda: ground.grids)
    grid = ground.grids[-1]
    assert grid.header.stamp == label.header.stamp and grid.header.frame_id == "base_footprint"
    assert (grid.info.width, grid.info.height) == (100, 200)
    cells = np.array(grid.data).reshape(200, 100)
    # The camera is 0.4 m before the frame: the wall is at 4.4 m, and what is near is not seen.
    assert (cells[98:102, 25:41] == 0).all() and 100 in cells[100, 42:47]
    assert (cells[:, 48:] == -1).all() and (cells[:, :10] == -1).all()


@pytest.mark.parametrize(
    ("label", "info", "sentence"),
    [
        (
            mask(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "rgb8"),
            calibration(),
            "The mask's encoding is 'rgb8'",
        ),
        (
            mask(road_to(4.0)),
            calibration(2 * WIDTH),
            "The camera_info is of 160x60 px and the mask of 80x60 px",
        ),
        (mask(np.zeros((HEIGHT, 40), np.uint8)), calibration(), "of 80x60 px and the mask of 40x60 px"),
        (mask(road_to(4.0)), calibration(0), "The camera_info is of 0x60 px; its width and height must"),
        (mask(road_to(4.0)), calibration(4_000_000_000), "of 4000000000x60 px and the mask of 80x60 px"),
    ],
)
def test_what_cannot_be_used_has_its_sentence_and_the_node_goes_on(
    ground: Ground, label: Image, info: CameraInfo, sentence: str
) -> None:
    ground.send(label, info)
    ground.says(sentence)
    before = len(ground.scans)
    ground.send(mask(road_to(3.0)), calibration())
    ground.spin_until(lambda: len(ground.scans) > before)


def test_a_camera_that_looks_at_the_sky_without_names_is_told_both(stage: Any) -> None:
    node = Ground(stage, "/up", camera_in_ground=UP, label_set="camvid11")
    node.send(mask(road_to(4.0)), None)
    node.says("No camera_info has come on /up/camera_info; the ground needs the mask's own.")
    node.send(mask(road_to(4.0)), calibration())
    node.says(
        "No pixel sees the ground within 20 m: the camera is 1.20 m above it, and its lowest ray points"
    )
    # By the name of the node's parameter.
    assert "or raise ground_range_m." in node.process.output


@pytest.mark.skipif(importlib.util.find_spec("vision_msgs") is not None, reason="vision_msgs is installed")
def test_a_mask_without_label_info_says_what_is_missing(stage: Any) -> None:
    node = Ground(stage, "/nameless")
    node.send(mask(road_to(4.0)), calibration())
    node.says("Which classes are ground is not known, as no LabelInfo has come on")


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is not None, reason="tf2_msgs is installed")
def test_without_tf2_msgs_the_pose_can_be_given(stage: Any) -> None:
    node = Ground(stage, "/unplaced", label_set="camvid11")
    node.send(mask(road_to(4.0)), calibration())
    node.says("/tf cannot be read, as tf2_msgs is not installed: sudo apt install")
    assert "or set camera_in_ground" in node.process.output


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"label_set": "sunrgbd37"},
            "parameter 'ground_classes': the group 'traversable' has no class of the mask's",
        ),
        ({"x_max_m": -1.0}, "parameter 'x_max_m' is -1, it must be above x_min_m, which is 0"),
        ({"ground_groups": "sailing"}, "parameter 'ground_groups': unknown groups 'sailing'"),
        ({"resolution_m": 0.01, "x_max_m": 900.0}, "makes 90000x2000 cells; there may be 4000000"),
    ],
)
def test_bad_parameters_stop_the_start(stage: Any, parameters: dict[str, Any], sentence: str) -> None:
    process = stage.spawn(MODULE, *ros_args("/refused", **parameters))
    assert process.finish() == 2
    assert sentence in process.output
    assert "Traceback" not in process.output


def test_the_street_s_true_labels_become_its_free_space(stage: Any) -> None:
    stage.spawn(CAMERA, *ros_args("/drive", width=128, height=72, rate_hz=5.0))
    moved = ("label", "camera_info")
    remaps = [part for name in moved for part in ("-r", f"{name}:=/drive/{name}")]
    pose = "[0.0, 0.0, 1.5, -0.5, 0.5, -0.5, 0.5]"
    parameters = {"camera_in_ground": pose, "label_set": "camvid11"}
    stage.spawn(MODULE, *ros_args("/drive_ground", **parameters), *remaps)
    scans: list[LaserScan] = stage.observer.subscribe(
        LaserScan, "/drive_ground/ground_grid_node/scan", RELIABLE
    )
    stage.observer.spin_until(lambda: len(scans) > 3)
    ranges = np.array(scans[-1].ranges)
    assert scans[-1].header.frame_id == "camera_ground"
    assert np.isfinite(ranges).any() and np.nanmin(ranges) > 2.0


def test_names_go_by_class_or_group_in_any_mask() -> None:
    driving = load_groups("driving")
    classes = {0: "sky", 3: "Road", 4: "Pavement"}
    assert ids_of(["traversable"], classes, driving) == {3, 4}
    assert ids_of(["road", "SKY"], classes, None) == {0, 3}
    # A mask of groups has their names for its classes'.
    assert ids_of(["traversable"], {0: "traversable", 4: "sky"}, driving) == {0}
    # Two classes may have one name, and ids need none.
    assert ids_of(["road"], {0: "road", 1: "sky", 2: "road"}, None) == {0, 2}
    assert ids_of(["3", "254"], {}, None) == {3, 254}
    with pytest.raises(GroupsError, match="'255' is no class's id, they go from 0 to 254"):
        ids_of(["255"], classes, driving)
    with pytest.raises(GroupsError, match="the group 'nature' has no class of the mask's: the mask has sky"):
        ids_of(["nature"], classes, driving)
    with pytest.raises(
        GroupsError, match=r"'rood' is neither a class nor a group: .*have traversable, dynamic"
    ):
        ids_of(["rood"], classes, driving)


def test_a_grid_message_has_rows_from_the_right_and_the_values_asked_for(monkeypatch: Any) -> None:
    class Data(bytearray):
        frombytes = bytearray.extend

    def occupancy_grid(header: Header) -> Any:
        place = SimpleNamespace(position=SimpleNamespace(), orientation=SimpleNamespace())
        return SimpleNamespace(header=header, info=SimpleNamespace(origin=place), data=Data())

    stand_in = SimpleNamespace(OccupancyGrid=occupancy_grid)
    monkeypatch.setitem(sys.modules, "nav_msgs.msg", stand_in)
    cells = np.array([[FREE, BLOCKED, UNSEEN], [UNSEEN, UNSEEN, FREE]], np.uint8)
    view = GroundView(cells, 0.0, 0.1, np.zeros(1, np.float32), (0.0, 0.0))
    grid = GridSpec((1.0, 1.6), (-0.2, 0.2), 0.2, 5.0)
    values = ground_messages.values_of(1, 99, -2)
    message = ground_messages.grid_message(view, grid, -0.1, values, Header(frame_id="base_link"))
    assert np.frombuffer(message.data, np.int8).tolist() == [1, 99, -2, -2, -2, 1]
    assert (message.info.width, message.info.height, message.info.resolution) == (3, 2, 0.2)
    origin = message.info.origin
    assert (origin.position.x, origin.position.y, origin.position.z, origin.orientation.w) == (
        1,
        -0.2,
        -0.1,
        1,
    )


@pytest.fixture()
def inner(ros_environment: None) -> Iterator[Any]:
    """The node in this process, with its defaults, fed by hand: its messages need no package here."""
    import rclpy

    from rt_segmentation.ros.ground_node import GroundNode

    rclpy.init()
    node = GroundNode()
    node.start()
    node._tf._missing = ""  # type: ignore[union-attr]
    yield node
    node.destroy_node()
    rclpy.shutdown()


def names(*of_classes: str) -> Any:
    return SimpleNamespace(
        class_map=[SimpleNamespace(class_id=i, class_name=name) for i, name in enumerate(of_classes)]
    )


def camera_on_the_robot(stamp_s: int) -> Any:
    message = TransformStamped(child_frame_id="lens")
    message.header.frame_id, message.header.stamp.sec = "base_link", stamp_s
    message.transform.translation.x, message.transform.translation.z = 0.4, HIGH_M
    turn = message.transform.rotation
    turn.x, turn.y, turn.z, turn.w = -0.5, 0.5, -0.5, 0.5
    return SimpleNamespace(transforms=[message])


def test_label_info_names_the_ground_and_tf_places_the_camera(inner: Any) -> None:
    label = mask(road_to(4.0))
    label.header.frame_id, label.header.stamp.sec = "lens", 100
    inner._calibrations.take(calibration())
    with pytest.raises(ImageError, match="no LabelInfo has come on"):
        inner._made(label)
    inner._names.take(names("wall", "desk"))
    with pytest.raises(
        ImageError, match="the group 'traversable' has no class of the mask's: the mask has wall"
    ):
        inner._made(label)
    # Another model, whose third class is a road.
    inner._names.take(names("sky", "building", "pole", "road"))
    with pytest.raises(TransformError, match="tf has no frame 'base_link'; it has no frame at all"):
        inner._made(label)
    inner._tf.take(camera_on_the_robot(130), False)
    with pytest.raises(
        TransformError, match=r"is 30\.00 s newer than the sensor's message: .* from the future"
    ):
        inner._made(label)
    inner._tf.take(camera_on_the_robot(100), False)
    view = inner._made(label)
    assert view.foot == pytest.approx((0.4, 0.0))
    assert view.ranges[WIDTH // 2] == pytest.approx(4.0, abs=0.2)
