"""Region of interest, rotation, letterbox and sizes of masks, over DDS: masks, overlays and calibrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from support.node_under_test import (
    NODE,
    TORCH,
    Feeder,
    NodeUnderTest,
    offline,
    pixels,
    ros_args,
)
from support.streets import street_scene

from rt_segmentation.imaging.frame import Region
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.camera_node import camera_info
from rt_segmentation.ros.messages import image_message

WIDTH, HEIGHT = 240, 180
# Of the camera's aspect ratio: the network sees it at the size at which it sees the whole.
ROI = Region(61, 43, 120, 90)
SPACE = "/placed"


def street(time_s: float = 0.0) -> Image:
    return image_message(Header(), street_scene(0, WIDTH, HEIGHT).render(time_s)[0], "rgb8")


@pytest.fixture(scope="module")
def segmenter(small_model: ModelManifest) -> Segmenter:
    return Segmenter.build(small_model, **TORCH)


@pytest.fixture(scope="module")
def placed(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    return NodeUnderTest(stage.spawn, stage.observer, SPACE, small_model, **TORCH)


@pytest.fixture()
def node(placed: NodeUnderTest) -> Iterator[NodeUnderTest]:
    """The node, whose parameters are the defaults again after the test."""
    yield placed
    for name, value in (("roi", [0, 0, 0, 0]), ("rotation", 0), ("output_resolution", "input")):
        assert placed.set_parameter(name, value).successful


class Camera:
    """Images, calibrations, and what comes of them."""

    def __init__(self, stage: Any, listen: Any, node: NodeUnderTest) -> None:
        self._node, self._observer = node, stage.observer.node
        self.labels = listen(Image, node.topic("label"))
        self.overlays = listen(Image, node.topic("overlay"))
        self.confidences = listen(Image, node.topic("confidence"))
        self.infos = listen(CameraInfo, node.topic("camera_info"))
        self._feeder = Feeder(node)
        self._calibration = self._observer.create_publisher(CameraInfo, f"{node.namespace}/camera_info", 5)
        node.spin_until(lambda: self._calibration.get_subscription_count() == 1)
        # The first frames may come before the calibration, or before confidence is computed.
        while not (self.infos and self.confidences):
            self._calibration.publish(camera_info(WIDTH, HEIGHT, 70.0))
            self._feeder.segment(street(), self.labels)

    def segment(self, image: Image) -> tuple[np.ndarray, np.ndarray, np.ndarray, CameraInfo]:
        """The mask, the confidence, the overlay and the calibration of an image."""
        mask = self._feeder.segment(image, self.labels)
        for messages in (self.confidences, self.overlays, self.infos):
            self._node.spin_until(lambda messages=messages: messages[-1].header == image.header)
        return mask, pixels(self.confidences[-1]), pixels(self.overlays[-1]), self.infos[-1]

    def publish(self, image: Image) -> None:
        """One of which no mask is awaited."""
        self._feeder.publish(image)

    def close(self) -> None:
        """It goes."""
        self._feeder.close()
        self._observer.destroy_publisher(self._calibration)


@pytest.fixture()
def camera(stage: Any, listen: Any, node: NodeUnderTest) -> Iterator[Camera]:
    camera = Camera(stage, listen, node)
    yield camera
    camera.close()


@pytest.mark.parametrize("resolution", ["input", "network", "64x48"])
def test_a_region_is_all_that_the_network_sees(
    node: NodeUnderTest, camera: Camera, segmenter: Segmenter, resolution: str
) -> None:
    assert node.set_parameter("output_resolution", resolution).successful
    assert node.set_parameter("roi", list(ROI)).successful
    reference = Segmenter(replace(segmenter.config, output_resolution=resolution, roi=ROI))
    image = street(1.0)
    mask, confidence, overlay, info = camera.segment(image)
    expected = offline(reference, image)
    np.testing.assert_array_equal(mask, expected.labels)
    np.testing.assert_array_equal(confidence, expected.confidence)
    focal = WIDTH / 2 / np.tan(np.radians(35))
    if resolution == "network":
        assert mask.shape == (120, 160)
        assert 255 not in mask
        # A reader takes the offset off: the axis is where it was, seen from the region's corner.
        scale = 160 / ROI.width
        assert (info.roi.width, info.roi.height, info.roi.do_rectify) == (160, 120, True)
        np.testing.assert_allclose(info.k[0], focal * scale)
        np.testing.assert_allclose(info.k[2] - info.roi.x_offset, (119.5 - ROI.x) * scale)
        np.testing.assert_allclose(info.k[5] - info.roi.y_offset, (89.5 - ROI.y) * scale)
        return
    width, height = (WIDTH, HEIGHT) if resolution == "input" else (64, 48)
    assert mask.shape == overlay.shape[:2] == (height, width)
    assert (info.width, info.height, info.roi.width) == (width, height, 0)
    np.testing.assert_allclose([info.k[0], info.k[2]], [focal * width / 240, 119.5 * width / 240])
    outside = np.ones((height, width), bool)
    scale = width / WIDTH
    inner = [round(side * scale) for side in ROI]
    outside[inner[1] : inner[1] + inner[3], inner[0] : inner[0] + inner[2]] = False
    np.testing.assert_array_equal(mask == 255, outside)
    assert (confidence[outside] == 0).all()
    if resolution == "input":
        np.testing.assert_array_equal(overlay[outside], pixels(image)[outside])


def test_a_camera_that_hangs_upside_down_has_its_masks_as_its_images(
    node: NodeUnderTest, camera: Camera, segmenter: Segmenter
) -> None:
    upright = street(2.0)
    hanging = image_message(Header(), pixels(upright)[::-1, ::-1], "rgb8")
    before = camera.segment(hanging)[0]
    assert node.set_parameter("rotation", 180).successful
    mask, _, overlay, info = camera.segment(hanging)
    reference = Segmenter(replace(segmenter.config, rotation=180))
    np.testing.assert_array_equal(mask, offline(reference, hanging).labels)
    assert (mask != before).any()
    np.testing.assert_allclose(overlay.mean(), pixels(hanging).mean(), atol=60)
    assert (info.width, info.height, list(info.k)[:3]) == (240, 180, list(camera.infos[0].k)[:3])
    # It is what the network says of the upright image, turned; resizing alone rounds one way.
    assert node.set_parameter("output_resolution", "network").successful
    own = Segmenter(replace(segmenter.config, output_resolution="network"))
    same = camera.segment(hanging)[0] == offline(own, upright).labels[::-1, ::-1]
    assert same.mean() > 0.99


def test_an_image_on_its_side_is_seen_upright(
    node: NodeUnderTest, camera: Camera, segmenter: Segmenter
) -> None:
    image = street(3.0)
    assert node.set_parameter("rotation", 90).successful
    reference = Segmenter(replace(segmenter.config, rotation=90))
    expected = offline(reference, image)
    assert expected.placement.network == (88, 120)
    # The engine for the upright size is built meanwhile.
    node.spin_until(lambda: bool((camera.segment(image)[0] == expected.labels).all()))
    assert camera.labels[-1].width == WIDTH


def test_a_letterbox_keeps_the_images_shape(
    stage: Any, listen: Any, small_model: ModelManifest, segmenter: Segmenter
) -> None:
    # A list without an element has no type in ROS: here it is the whole image.
    size: dict[str, Any] = {"input_width": 160, "input_height": 160, "letterbox": True, "roi": "[]"}
    node = NodeUnderTest(stage.spawn, stage.observer, "/boxed", small_model, **TORCH, **size)
    camera = Camera(stage, listen, node)
    image = street(4.0)
    squeezed = Segmenter(replace(segmenter.config, input_size=(160, 160)))
    reference = Segmenter(replace(squeezed.config, letterbox=True))
    expected = offline(reference, image)
    assert expected.placement.content == Region(0, 20, 160, 120)
    mask = camera.segment(image)[0]
    np.testing.assert_array_equal(mask, expected.labels)
    assert (mask != offline(squeezed, image).labels).any()
    assert node.set_parameter("output_resolution", "network").successful
    assert camera.segment(image)[0].shape == (120, 160)
    camera.close()


def test_a_region_outside_of_the_image_drops_it_with_a_reason(node: NodeUnderTest, camera: Camera) -> None:
    assert node.set_parameter("roi", [200, 0, 64, 64]).successful
    node.fresh_status()
    before = node.count("frames dropped: roi_outside")
    camera.publish(street())
    node.spin_until(lambda: node.count("frames dropped: roi_outside") == before + 1)
    node.process.wait_for(
        "roi is [200, 0, 64, 64], which ends at column 264 and row 64, and the image has 240x180 px"
    )
    # That is no reason to refuse another size of the network, of which this camera tells nothing.
    assert node.set_parameter("input_width", 96).successful
    node.process.wait_for("is not made ready for the camera: roi is")
    node.process.wait_for("changed to")
    assert node.set_parameter("input_width", 0).successful
    # It goes on; and an empty list, which comes as one of strings, is the whole image again.
    nothing = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY)
    request = SetParameters.Request(parameters=[ParameterMessage(name="roi", value=nothing)])
    assert node.observer.call(SetParameters, f"{node.name}/set_parameters", request).results[0].successful
    assert 255 not in camera.segment(street())[0]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("roi", [1, 2, 3], "parameter 'roi' is [1, 2, 3]: it must be four numbers: x, y, width and height"),
        ("roi", [-1, 0, 64, 64], "parameter 'roi' is [-1, 0, 64, 64]: x and y must be 0 or more, width and"),
        ("roi", [0, 0, 64, 8], "parameter 'roi' is [0, 0, 64, 8]: x and y must be 0 or more, width and"),
        ("roi", ["a"], "parameter 'roi' holds 'a', it must be an integer"),
        ("rotation", 45, "parameter 'rotation' is 45: it must be 0, 90, 180 or 270"),
        ("rotation", "90", "parameter 'rotation' is '90', it must be an integer"),
        ("letterbox", 1, "parameter 'letterbox' is 1, it must be true or false"),
        ("output_resolution", "640*480", "parameter 'output_resolution' is '640*480': it must be input, net"),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence(
    node: NodeUnderTest, name: str, value: Any, sentence: str
) -> None:
    result = node.set_parameter(name, value)
    assert not result.successful
    assert result.reason.startswith(sentence)


def test_a_bad_value_stops_the_start(stage: Any, small_model: ModelManifest) -> None:
    arguments = ros_args("/refused", model=small_model.path, **TORCH, rotation=91)
    process = stage.spawn(NODE, *arguments)
    assert process.finish() == 2
    assert "parameter 'rotation' is 91: it must be 0, 90, 180 or 270" in process.output
