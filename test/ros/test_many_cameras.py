"""Several cameras and one network: each has its masks and numbers, and none starves another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from support.node_under_test import ENGINE, RELIABLE, NodeUnderTest, offline, pixels, stamp
from support.streets import street_scene

from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.camera_node import camera_info
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.parameters import ParameterError, accept
from rt_segmentation.ros.segmentation_parameters import PARAMETERS, PER_CAMERA, camera_parameters

SIZES = {"front": (160, 120), "left": (96, 72), "rear": (240, 180)}
ENCODINGS = {"front": "rgb8", "left": "mono8", "rear": "bgr8"}


def picture(camera: str, time_s: float = 1.0) -> Image:
    rgb = street_scene(0, *SIZES[camera]).render(time_s)[0]
    pixels = {"rgb8": rgb, "bgr8": rgb[..., ::-1].copy(), "mono8": rgb[..., 1].copy()}
    return image_message(Header(frame_id=camera), pixels[ENCODINGS[camera]], ENCODINGS[camera])


class Cameras:
    """The cameras of a node, and what comes back for each."""

    def __init__(self, stage: Any, node: NodeUnderTest) -> None:
        self._observer, self._namespace = stage.observer, node.namespace
        self.publishers = {
            name: stage.observer.node.create_publisher(Image, f"{node.namespace}/{name}/image", RELIABLE)
            for name in SIZES
        }
        self.labels = {
            name: stage.observer.subscribe(Image, node.topic(f"{name}/label"), RELIABLE) for name in SIZES
        }
        self.images = {name: picture(name) for name in SIZES}
        self._reports: list[DiagnosticArray] = stage.observer.subscribe(
            DiagnosticArray, "/diagnostics", RELIABLE
        )
        self._node = node
        node.spin_until(lambda: all(p.get_subscription_count() for p in self.publishers.values()))

    def publish(self, name: str) -> tuple[int, int]:
        """Send a camera's image under a new stamp, which is returned."""
        image = self.images[name]
        image.header.stamp = self._observer.node.get_clock().now().to_msg()
        self.publishers[name].publish(image)
        return stamp(image)

    def status(self, part: str) -> DiagnosticStatus | None:
        """The last status of a part of the node."""
        name = f"{self._node.name}: {part}"
        found = [status for report in self._reports for status in report.status if status.name == name]
        return found[-1] if found else None

    def value(self, name: str, key: str) -> str:
        """A value of a camera's last status; 0 where it has not come up yet."""
        status = self.status(f"camera {name}")
        return {pair.key: pair.value for pair in status.values}.get(key, "0") if status else "0"

    def count(self, name: str, key: str) -> int:
        """A number of a camera's last status."""
        return int(self.value(name, key))


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    own: dict[str, Any] = {"left.max_rate_hz": 500.0}
    return NodeUnderTest(
        stage.spawn,
        stage.observer,
        "/robot",
        small_model,
        cameras="[front,left,rear]",
        max_rate_hz=0.0,
        **own,
    )


@pytest.fixture(scope="module")
def cameras(stage: Any, node: NodeUnderTest) -> Cameras:
    return Cameras(stage, node)


def test_each_camera_has_its_masks_calibration_and_numbers(
    stage: Any, listen: Any, node: NodeUnderTest, cameras: Cameras, small_model: ModelManifest
) -> None:
    segmenter = Segmenter.build(small_model, **ENGINE)
    infos = listen(CameraInfo, node.topic("rear/camera_info"))
    calibration = stage.observer.node.create_publisher(CameraInfo, "/robot/rear/camera_info", 5)
    node.spin_until(lambda: calibration.get_subscription_count() == 1)
    sent: dict[str, list[tuple[int, int]]] = {name: [] for name in SIZES}

    def all_answered() -> bool:
        return all(
            cameras.labels[name] and stamp(cameras.labels[name][-1]) == sent[name][-1] for name in SIZES
        )

    # What is sent may get lost before both sides know of each other.
    while not (infos and all(cameras.labels.values())):
        calibration.publish(camera_info(*SIZES["rear"], 70.0))
        for name in SIZES:
            sent[name].append(cameras.publish(name))
        node.spin_for(0.5)
    node.spin_until(all_answered)
    for _ in range(3):
        for name in SIZES:
            sent[name].append(cameras.publish(name))
        node.spin_until(all_answered)
    for name, size in SIZES.items():
        label = cameras.labels[name][-1]
        assert (label.width, label.height) == size
        assert label.header.frame_id == name
        np.testing.assert_array_equal(pixels(label), offline(segmenter, cameras.images[name]).labels)
    assert (infos[-1].width, infos[-1].height, infos[-1].header.frame_id) == (*SIZES["rear"], "rear")

    # Statuses: the engine's, and one for each camera.
    node.spin_until(
        lambda: all(
            cameras.count(name, "masks published") == len(cameras.labels[name])
            and cameras.count(name, "frames received")
            == cameras.count(name, "masks published") + cameras.count(name, "frames dropped")
            for name in SIZES
        )
    )
    overall = cameras.status("segmentation")
    assert overall is not None
    assert (overall.level, overall.message) == (DiagnosticStatus.OK, "active")
    assert {pair.key: pair.value for pair in overall.values}["engine"] == ENGINE["engine"]


def test_a_fast_camera_starves_none_that_is_slow_or_stops(
    stage: Any, node: NodeUnderTest, cameras: Cameras
) -> None:
    """The front one is too much, the rear one slow, and the left one stops."""
    before = {name: len(cameras.labels[name]) for name in SIZES}
    # While the first engine was built frames may have been replaced.
    dropped = cameras.count("rear", "frames dropped")
    rounds, slow = 200, []
    for number in range(rounds):
        for _ in range(3):
            cameras.publish("front")
        if number < 20:
            cameras.publish("left")
        if number % 20 == 0:
            slow.append(cameras.publish("rear"))
            # The slow one's frame waits for the one at work and, at most, one of each other camera.
            node.spin_until(lambda: stamp(cameras.labels["rear"][-1]) == slow[-1])
        stage.observer.executor.spin_once(timeout_sec=0.0)
    got = {name: len(cameras.labels[name]) - before[name] for name in SIZES}
    # Each of the slow one's frames has its mask, although the fast one alone is more than the node can do.
    assert got["rear"] == len(slow) == 10
    assert got["left"] > 0
    node.spin_until(lambda: cameras.count("front", "frames dropped: replaced") > 0)
    assert cameras.count("rear", "frames dropped") == dropped
    p95 = {name: cameras.value(name, "latency p95 [ms]") for name in ("front", "rear")}
    print(f"of {3 * rounds}, 20 and {len(slow)} frames {got} masks; latency p95 [ms] {p95}")
    # The one that stopped is told of alone, and the others go on.
    node.set_parameter("diagnostics.stale_after_s", 0.5)
    stopped = cameras.labels["left"][-1].header

    def told() -> bool:
        cameras.publish("front")
        cameras.publish("rear")
        status = cameras.status("camera left")
        return status is not None and "no image on /robot/left/image" in status.message

    node.spin_until(told)
    assert cameras.labels["left"][-1].header == stopped


def test_each_camera_has_settings_of_its_own(
    node: NodeUnderTest, cameras: Cameras, small_model: ModelManifest
) -> None:
    names = ("front", "left", "rear")

    def values(name: str) -> list[Any]:
        return [node.get_parameter(f"{camera}.{name}") for camera in names]

    def mask(name: str) -> np.ndarray:
        sent = cameras.publish(name)
        node.spin_until(lambda: stamp(cameras.labels[name][-1]) == sent)
        return pixels(cameras.labels[name][-1])

    assert values("max_rate_hz") == [0.0, 500.0, 0.0]
    segmenter = Segmenter.build(small_model, **ENGINE)
    upright = segmenter.config
    assert node.set_parameter("rear.rotation", 180).successful
    assert values("rotation") == [0, 0, 180]
    np.testing.assert_array_equal(mask("front"), offline(segmenter, cameras.images["front"]).labels)
    segmenter.config = replace(upright, rotation=180)
    np.testing.assert_array_equal(mask("rear"), offline(segmenter, cameras.images["rear"]).labels)
    # The one without a camera's name is for all of them.
    assert node.set_parameter("rotation", 180).successful
    assert values("rotation") == [180] * 3
    np.testing.assert_array_equal(mask("front"), offline(segmenter, cameras.images["front"]).labels)
    for name in ("rotation", "front.rotation"):
        refused = node.set_parameter(name, 45)
        assert not refused.successful and refused.reason.startswith(f"parameter '{name}' is 45: ")
    assert values("rotation") == [180] * 3
    refused = node.set_parameter("front.rotaton", 0)
    assert "did you mean 'front.rotation'" in refused.reason


def test_what_cannot_be_segmented_is_said_once_of_each_camera(node: NodeUnderTest, cameras: Cameras) -> None:
    bad = {"front": "foo8", "rear": "32FC1"}
    written = len(node.process.output)
    for name, encoding in bad.items():
        cameras.images[name].encoding = encoding
    dropped = "frames dropped: unknown_encoding"
    # In several statuses of each.
    for _ in range(3):
        before = {name: cameras.count(name, dropped) for name in bad}

        def fed(before: dict[str, int] = before) -> bool:
            for name in bad:
                cameras.publish(name)
            node.spin_for(0.1)
            return all(cameras.count(name, dropped) > before[name] for name in bad)

        node.spin_until(fed)
    for name, encoding in bad.items():
        cameras.images[name] = picture(name)
        status = cameras.status(f"camera {name}")
        assert status is not None and f"The image encoding '{encoding}' is" in status.message
    said = [line for line in node.process.output[written:].splitlines() if "The image encoding" in line]
    began = [line for line in said if "over after" not in line]
    assert len(began) == 2
    for name, encoding in bad.items():
        assert any(f"camera {name}: The image encoding '{encoding}' is" in line for line in began)


def test_a_cameras_settings_begin_as_the_general_ones() -> None:
    general = {"rotation": 90, "roi": [1, 2, 40, 32]}
    table = camera_parameters(["front", "rear"], lambda p: general.get(p.name, p.default))
    defaults = {parameter.name: parameter.default for parameter in table}
    assert (defaults["front.rotation"], defaults["rear.roi"]) == (90, [1, 2, 40, 32])
    assert len(table) == 2 * len(PER_CAMERA) and camera_parameters([""], lambda p: p.default) == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["front", "front"], "each camera must have a name of its own"),
        (["front", "1st"], "'1st' is no name: it must begin with a letter"),
        (["front/left"], "'front/left' is no name"),
        (["ß\n", "8"], "'ß ' is no name"),
        (["front\u2028"], "is no name"),
        (["-" * 4000], r"\.\.\. \(4000 characters\)' is no name"),
    ],
)
def test_bad_names_are_refused(names: list[str], sentence: str) -> None:
    (cameras,) = (parameter for parameter in PARAMETERS if parameter.name == "cameras")
    assert accept(cameras, ["front", "rear_left"]) == ["front", "rear_left"]
    with pytest.raises(ParameterError, match=sentence) as refused:
        accept(cameras, names)
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 1000
