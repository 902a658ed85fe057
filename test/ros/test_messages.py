"""Messages from and to plain data: images, calibrations, stamps, and cv_bridge where it is needed."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from builtin_interfaces.msg import Time  # type: ignore[import-untyped]
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from rt_segmentation.imaging.codec import encode_png
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Region
from rt_segmentation.imaging.placement import place
from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.messages import (
    ReusedImage,
    compressed_message,
    image_message,
    label_info_message,
    mask_camera_info,
    stamp_ns,
    to_frame,
)

HEADER = Header(stamp=Time(sec=1_700_000_000, nanosec=123_456_789), frame_id="front_camera")
STAMP_NS = 1_700_000_000_123_456_789


def test_stamp_in_nanoseconds() -> None:
    assert stamp_ns(HEADER) == STAMP_NS


def test_image_and_frame_are_the_same_pixels_and_header() -> None:
    rgb = np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)
    message = image_message(HEADER, rgb[:, ::-1], "rgb8")
    assert (message.width, message.height, message.step, message.encoding) == (50, 40, 150, "rgb8")
    assert bytes(message.data) == rgb[:, ::-1].tobytes()
    frame = to_frame(message)
    assert (frame.stamp_ns, frame.frame_id) == (STAMP_NS, "front_camera")
    np.testing.assert_array_equal(frame.planes[0], rgb[:, ::-1])


def test_label_image_is_one_byte_a_pixel() -> None:
    labels = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
    message = image_message(HEADER, labels, "mono8")
    assert (message.step, bytes(message.data)) == (50, labels.tobytes())


def test_reused_image_sends_what_is_in_its_pixels() -> None:
    image = ReusedImage("mono8")
    for value, (height, width) in ((7, (40, 50)), (9, (40, 50)), (3, (20, 30))):
        pixels = image.pixels(height, width)
        pixels[:] = value
        message = image.message(HEADER)
        assert (message.header, message.encoding) == (HEADER, "mono8")
        assert (message.width, message.height, message.step) == (width, height, width)
        assert bytes(message.data) == bytes([value]) * width * height
        assert image.pixels(height, width) is pixels


def test_compressed_image_and_frame_are_the_same_picture() -> None:
    labels = np.random.RandomState(0).randint(0, 11, (40, 50), np.uint8)
    message = compressed_message(HEADER, encode_png(labels), "mono8; png compressed ")
    assert isinstance(message, CompressedImage)
    frame = to_frame(message)
    assert (frame.pixel_format, frame.stamp_ns, frame.frame_id) == ("mono8", STAMP_NS, "front_camera")
    np.testing.assert_array_equal(frame.planes[0].squeeze(), labels)


def calibration() -> CameraInfo:
    return CameraInfo(
        width=640,
        height=480,
        distortion_model="plumb_bob",
        d=[0.1, -0.2, 0.01, 0.02, 0.3],
        k=[500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
        r=[0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        p=[480.0, 0.0, 316.0, -40.0, 0.0, 490.0, 236.0, 8.0, 0.0, 0.0, 1.0, 0.0],
        binning_x=2,
        binning_y=2,
        roi=RegionOfInterest(x_offset=100, y_offset=40, width=200, height=100, do_rectify=True),
    )


class Reader:
    """What image_geometry's PinholeCameraModel takes from a message: K of the image that it goes with."""

    def __init__(self, info: CameraInfo) -> None:
        binning_x, binning_y = max(1, info.binning_x), max(1, info.binning_y)
        whole = not (info.roi.x_offset or info.roi.y_offset or info.roi.width or info.roi.height)
        width, height = (info.width, info.height) if whole else (info.roi.width, info.roi.height)
        self.size = width // binning_x, height // binning_y
        self.fx, self.fy = info.k[0] / binning_x, info.k[4] / binning_y
        self.cx = (info.k[2] - info.roi.x_offset) / binning_x
        self.cy = (info.k[5] - info.roi.y_offset) / binning_y
        self.projection = [
            info.p[0] / binning_x,
            (info.p[2] - info.roi.x_offset) / binning_x,
            info.p[3] / binning_x,
            info.p[5] / binning_y,
            (info.p[6] - info.roi.y_offset) / binning_y,
            info.p[7] / binning_y,
        ]

    @property
    def intrinsics(self) -> list[float]:
        return [self.fx, self.fy, self.cx, self.cy]


def sensor(**fields: Any) -> CameraInfo:
    """A sensor of 640x360 whose camera sends images of 320x180 of it."""
    k = [500.0, 0.0, 320.0, 0.0, 500.0, 180.0, 0.0, 0.0, 1.0]
    p = [500.0, 0.0, 320.0, -40.0, 0.0, 500.0, 180.0, 8.0, 0.0, 0.0, 1.0, 0.0]
    return CameraInfo(width=640, height=360, k=k, p=p, **fields)


IMAGE = (320, 180)
BINNED = sensor(binning_x=2, binning_y=2)
REGION = sensor(roi=RegionOfInterest(x_offset=160, y_offset=90, width=320, height=180))
ODD_REGION = sensor(roi=RegionOfInterest(x_offset=161, y_offset=93, width=320, height=180))
BINNED_REGION = sensor(
    binning_x=2, binning_y=1, roi=RegionOfInterest(x_offset=0, y_offset=91, width=640, height=180)
)


@pytest.mark.parametrize(
    ("info", "truth"),
    [
        (BINNED, [250, 250, 160, 90]),
        (REGION, [500, 500, 160, 90]),
        (ODD_REGION, [500, 500, 159, 87]),
        (BINNED_REGION, [250, 500, 160, 89]),
    ],
)
def test_a_reader_gets_the_masks_calibration_with_binning_and_region(
    info: CameraInfo, truth: list[float]
) -> None:
    same = mask_camera_info(info, HEADER, place(IMAGE, IMAGE))
    assert Reader(same).intrinsics == truth
    same.header = Header()
    assert same == info
    # A mask of half the width and a third of the height.
    mask = Reader(mask_camera_info(info, HEADER, place(IMAGE, IMAGE, resolution="160x60")))
    assert mask.size == (160, 60)
    scales = [1 / 2, 1 / 3, 1 / 2, 1 / 3]
    np.testing.assert_allclose(mask.intrinsics, np.multiply(truth, scales), rtol=1e-12)
    scales = [1 / 2, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3]
    np.testing.assert_allclose(mask.projection, np.multiply(Reader(info).projection, scales), rtol=1e-12)


def test_calibration_scales_by_each_sides_own_factor() -> None:
    info = calibration()
    scaled = mask_camera_info(info, HEADER, place((640, 480), (320, 120), resolution="network"))
    assert (scaled.header, scaled.width, scaled.height) == (HEADER, 320, 120)
    # Columns by a half, rows by a quarter; the baseline term of P is in columns, too.
    np.testing.assert_array_equal(scaled.k, [250, 0, 160, 0, 127.5, 60, 0, 0, 1])
    np.testing.assert_array_equal(scaled.p, [240, 0, 158, -20, 0, 122.5, 59, 2, 0, 0, 1, 0])
    np.testing.assert_array_equal(scaled.r, info.r)
    assert (scaled.distortion_model, list(scaled.d)) == ("plumb_bob", list(info.d))
    assert (scaled.binning_x, scaled.binning_y) == (2, 2)
    roi = RegionOfInterest(x_offset=50, y_offset=10, width=100, height=25, do_rectify=True)
    assert scaled.roi == roi
    assert info == calibration()


def test_calibration_without_a_size_still_belongs_to_the_image() -> None:
    info = CameraInfo(k=[500.0, 0.0, 320.0, 0.0, 500.0, 180.0, 0.0, 0.0, 1.0])
    scaled = mask_camera_info(info, HEADER, place((640, 360), (320, 180), resolution="network"))
    assert (scaled.width, scaled.height) == (0, 0)
    np.testing.assert_array_equal(scaled.k, [250, 0, 160, 0, 250, 90, 0, 0, 1])


def test_calibration_of_a_part_of_the_image_is_a_region_of_interest() -> None:
    placement = place(IMAGE, (80, 40), region=Region(30, 20, 160, 80), resolution="network")
    part = mask_camera_info(BINNED, HEADER, placement)
    # Of the sensor, which has two pixels for one of the image; and a mask has half the region's.
    roi = RegionOfInterest(x_offset=30, y_offset=20, width=160, height=80, do_rectify=True)
    assert (part.roi, part.width, part.height) == (roi, 320, 180)
    reader = Reader(part)
    assert reader.size == (80, 40)
    np.testing.assert_allclose(reader.intrinsics, [125, 125, (160 - 30) / 2, (90 - 20) / 2])
    assert sensor(binning_x=2, binning_y=2) == BINNED


def test_label_info_is_left_out_where_vision_msgs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    assert label_info_message(load_label_set("camvid11"), HEADER) is None


def unknown_image() -> Image:
    return Image(header=HEADER, encoding="p010", width=48, height=40, step=192, data=bytes(192 * 40))


def test_unknown_encoding_without_cv_bridge_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImageError, match=r"'p010' is not known; known are rgb8, .* With cv_bridge") as caught:
        to_frame(unknown_image())
    assert caught.value.reason == "unknown_encoding"


def cv_bridge_that_gives(result: Any) -> types.ModuleType:
    class CvBridge:
        def imgmsg_to_cv2(self, message: Image, desired_encoding: str) -> Any:
            assert desired_encoding == "rgb8"
            if isinstance(result, Exception):
                raise result
            return result

    module = types.ModuleType("cv_bridge")
    vars(module)["CvBridge"] = CvBridge
    return module


def test_unknown_encoding_goes_to_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.full((40, 48, 3), 77, np.uint8)
    monkeypatch.setitem(sys.modules, "cv_bridge", cv_bridge_that_gives(rgb))
    frame = to_frame(unknown_image())
    assert (frame.pixel_format, frame.width, frame.height, frame.stamp_ns) == ("rgb8", 48, 40, STAMP_NS)
    np.testing.assert_array_equal(frame.planes[0], rgb)


def test_what_cv_bridge_does_not_convert_is_still_the_unknown_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", cv_bridge_that_gives(RuntimeError("no conversion")))
    with pytest.raises(ImageError, match="cv_bridge does not convert it either: no conversion") as caught:
        to_frame(unknown_image())
    assert caught.value.reason == "unknown_encoding"


@pytest.mark.parametrize("encoding", ["32FC1", "32SC1", "8UC2"])
def test_cv_bridge_is_not_asked_where_it_could_not_help(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", cv_bridge_that_gives(AssertionError("asked")))
    message = unknown_image()
    message.encoding = encoding
    with pytest.raises(ImageError) as caught:
        to_frame(message)
    assert "cv_bridge" not in str(caught.value) and encoding in str(caught.value)


def test_cv_bridge_is_not_asked_about_damaged_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", cv_bridge_that_gives(AssertionError("asked")))
    message = Image(encoding="rgb8", width=48, height=40, step=144, data=bytes(100))
    with pytest.raises(ImageError) as caught:
        to_frame(message)
    assert caught.value.reason == "truncated"
