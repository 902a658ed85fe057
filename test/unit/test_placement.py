"""Where a mask's pixels lie: there and back again, against formulas and pictures made without the code."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from rt_segmentation.imaging.codec import ENCODINGS, decode_image
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.errors import ImageError, PlacementError
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.imaging.placement import (
    Calibration,
    Placement,
    check_resolution,
    check_roi,
    place,
    width_for,
)

Rgb = npt.NDArray[np.uint8]
IMAGE = (96, 64)
ODD = Region(13, 7, 49, 37)
TURNS = {0: 0, 90: -1, 180: 2, 270: 1}
"""What `numpy.rot90` is told for degrees clockwise."""


def noise(width: int, height: int) -> Rgb:
    return np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)


def frame_of(encoding: str, padding: int = 0) -> Frame:
    """Any bytes in an encoding, in rows with some more at their ends."""
    width, height = IMAGE
    channels = next((n for n in "43" if f"C{n}" in encoding), "1")
    channels = {"rgb": "3", "bgr": "3", "rgba": "4", "bgra": "4"}.get(encoding.rstrip("168"), channels)
    depth = 2 if encoding.startswith("16U") or encoding.endswith("16") else 1
    packed = 2 if encoding[:4] in ("uyvy", "yuyv", "yuv4") else 1
    step = width * int(channels) * depth * packed + padding
    rows = height * {"nv12": 3, "nv21": 3, "nv24": 6}.get(encoding, 2) // 2
    data = np.random.RandomState(1).randint(0, 256, step * rows).astype(np.uint8)
    return Levels(16)(decode_image(encoding, width, height, step, False, data.tobytes()))


def test_own_pixels_are_what_the_network_sees_where_there_is_nothing_to_convert() -> None:
    frame = Frame((noise(*IMAGE),), "rgb8", *IMAGE, 0, "")
    placement = place(IMAGE, IMAGE)
    own = placement.own_pixels(frame)
    assert own is frame.planes[0]
    np.testing.assert_array_equal(own, placement.to_network(frame))
    # A mask of another size, or of the whole image, changes nothing for the network.
    assert place(IMAGE, IMAGE, resolution="20x20").own_pixels(frame) is own
    others = [
        place(IMAGE, (48, 32)),
        place(IMAGE, IMAGE, region=ODD),
        place(IMAGE, IMAGE, rotation=180),
        place(IMAGE, (IMAGE[1], IMAGE[0]), rotation=90),
        place(IMAGE, IMAGE, region=Region(0, 0, 96, 32), letterbox=True),
    ]
    assert [other.own_pixels(frame) for other in others] == [None] * len(others)
    for encoding in ENCODINGS:
        other = frame_of(encoding)
        pixels = placement.own_pixels(other)
        assert pixels is None or pixels is other.planes[0]
        if pixels is not None:
            np.testing.assert_array_equal(pixels, placement.to_network(other))
    fixed = noise(*IMAGE)
    fixed.flags.writeable = False
    assert placement.own_pixels(Frame((fixed,), "rgb8", *IMAGE, 0, "")) is None


@pytest.mark.parametrize("size", [IMAGE, (48, 32), (40, 40)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_whole_image_goes_the_way_it_always_went(encoding: str, size: tuple[int, int]) -> None:
    frame = frame_of(encoding)
    placement = place(IMAGE, size)
    np.testing.assert_array_equal(placement.to_network(frame), to_rgb(frame, size))
    out = np.empty((size[1], size[0], 3), np.uint8)
    assert placement.to_network(frame, out) is out
    np.testing.assert_array_equal(out, to_rgb(frame, size))


def test_what_needs_no_change_is_neither_copied_nor_resized() -> None:
    frame = Frame.from_rgb(noise(*IMAGE))
    placement = place(IMAGE, IMAGE)
    assert placement.is_direct
    assert np.shares_memory(placement.to_network(frame), frame.planes[0])
    labels = np.zeros(IMAGE[::-1], np.uint8)
    assert placement.labels_back(labels) is labels
    assert placement.confidence_back(labels) is labels


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "region", [ODD, Region(0, 0, 49, 37), Region(47, 27, 49, 37), Region(1, 0, 95, 64), Region(2, 3, 33, 60)]
)
def test_a_region_has_the_pixels_that_it_has_in_the_whole_image(encoding: str, region: Region) -> None:
    frame = frame_of(encoding, padding=14)
    whole = to_rgb(frame)
    own = np.ascontiguousarray(whole[region.slices])
    np.testing.assert_array_equal(to_rgb(frame, region=region), own)
    np.testing.assert_array_equal(
        place(IMAGE, (32, 32), region=region).to_network(frame), to_rgb(Frame.from_rgb(own), (32, 32))
    )


@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize("region", [None, ODD])
def test_the_network_sees_the_region_upright(rotation: int, region: Region | None) -> None:
    rgb = noise(*IMAGE)
    seen = rgb if region is None else rgb[region.slices]
    upright = np.rot90(seen, TURNS[rotation])
    size = upright.shape[1], upright.shape[0]
    placement = place(IMAGE, size, region=region, rotation=rotation)
    for out in (None, np.empty_like(upright, order="C")):
        np.testing.assert_array_equal(placement.to_network(Frame.from_rgb(rgb), out), upright)
    # What the network says of each of its pixels comes back to where it saw it.
    labels = np.ascontiguousarray(upright[..., 0]) // 2
    back = placement.labels_back(labels)
    expected = np.full(IMAGE[::-1], 255, np.uint8)
    expected[Region(0, 0, *IMAGE).slices if region is None else region.slices] = seen[..., 0] // 2
    np.testing.assert_array_equal(back, expected)
    confidence = placement.confidence_back(labels)
    np.testing.assert_array_equal(confidence, np.where(expected == 255, 0, expected))
    # And of the network's own size it is the region alone.
    own = place(IMAGE, size, region=region, rotation=rotation, resolution="network")
    np.testing.assert_array_equal(own.labels_back(labels), seen[..., 0] // 2)


@pytest.mark.parametrize(
    ("network", "content"),
    [
        ((96, 96), Region(0, 16, 96, 64)),
        ((160, 64), Region(32, 0, 96, 64)),
        ((48, 64), Region(0, 16, 48, 32)),
        ((96, 64), Region(0, 0, 96, 64)),
    ],
)
def test_a_letterbox_keeps_the_aspect_ratio(network: tuple[int, int], content: Region) -> None:
    rgb = noise(*IMAGE)
    placement = place(IMAGE, network, letterbox=True, padding=(10, 20, 30))
    assert placement.content == content
    seen = placement.to_network(Frame.from_rgb(rgb), np.empty((network[1], network[0], 3), np.uint8))
    np.testing.assert_array_equal(seen, placement.to_network(Frame.from_rgb(rgb)))
    np.testing.assert_array_equal(seen[content.slices], to_rgb(Frame.from_rgb(rgb), content.size))
    outside = np.ones(network[::-1], bool)
    outside[content.slices] = False
    assert (seen[outside] == (10, 20, 30)).all()
    # No label of the padding comes back.
    labels = np.full(network[::-1], 7, np.uint8)
    labels[content.slices] = 3
    assert (placement.labels_back(labels) == 3).all()
    own = place(IMAGE, network, letterbox=True, resolution="network")
    assert own.labels_back(labels).shape == (content.height, content.width)
    assert (own.labels_back(labels) == 3).all()


def to_camera(placement: Placement) -> tuple[Any, Any]:
    """Where in the camera's image the centres of a mask's pixels lie, by the mask's size alone."""
    cover, (width, height) = placement.cover, placement.mask
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return cover.x + x * cover.width / width, cover.y + y * cover.height / height


def seen_at(placement: Placement, u: Any, v: Any) -> tuple[Any, Any]:
    """Where in the network's input points of the camera's image lie: cut, turned, resized, moved."""
    region, content = placement.region, placement.content
    u, v = (u - region.x) / region.width, (v - region.y) / region.height
    u, v = {0: (u, v), 90: (1 - v, u), 180: (1 - u, 1 - v), 270: (v, 1 - u)}[placement.rotation]
    return content.x + u * content.width, content.y + v * content.height


@pytest.mark.parametrize("rotation", TURNS)
@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize("resolution", ["input", "network", "37x23", "200x150"])
@pytest.mark.parametrize("region", [None, ODD])
def test_each_pixel_of_a_mask_is_what_the_network_says_where_it_lies(
    rotation: int, letterbox: bool, resolution: str, region: Region | None
) -> None:
    placement = place(
        IMAGE, (80, 56), region=region, rotation=rotation, letterbox=letterbox, resolution=resolution
    )
    # The network answers with the column, or the row, of each of its pixels.
    across = np.tile(np.arange(80, dtype=np.uint8), (56, 1))
    down = np.tile(np.arange(56, dtype=np.uint8)[:, None], (1, 80))
    columns, rows = placement.labels_back(across), placement.labels_back(down)
    assert columns.shape == rows.shape == placement.mask[::-1]
    u, v = to_camera(placement)
    own = placement.region
    inside = (own.x <= u) & (u < own.x + own.width) & (own.y <= v) & (v < own.y + own.height)
    np.testing.assert_array_equal(columns != 255, inside)
    np.testing.assert_array_equal(rows != 255, inside)
    tolerance = 0.51
    if region is not None and placement.mask != placement.cover.size:
        # A region's edge lies between the pixels of a mask of another size: by half of one it is moved.
        step = max(placement.cover.width / placement.mask[0], placement.cover.height / placement.mask[1])
        tolerance += 0.5 * step * max(placement.content.size) / min(own.size)
    column, row = seen_at(placement, u[inside], v[inside])
    assert np.abs(columns[inside] + 0.5 - column).max() <= tolerance
    assert np.abs(rows[inside] + 0.5 - row).max() <= tolerance


def test_an_overlay_shows_the_image_under_the_mask() -> None:
    rgb = noise(*IMAGE)
    frame = Frame.from_rgb(rgb)
    mask = place(IMAGE, (49, 37), region=ODD, rotation=180, resolution="network").to_mask(frame)
    np.testing.assert_array_equal(mask, rgb[ODD.slices])
    whole = place(IMAGE, (49, 37), region=ODD, resolution="48x32").to_mask(frame)
    np.testing.assert_array_equal(whole, to_rgb(frame, (48, 32)))


def test_a_region_that_no_pixel_of_a_small_mask_meets_is_nowhere_in_it() -> None:
    placement = place((3200, 3200), (64, 64), region=Region(0, 0, 32, 32), resolution="2x2")
    assert (placement.labels_back(np.zeros((64, 64), np.uint8)) == 255).all()


def test_buffers_are_checked() -> None:
    for placement in (
        place(IMAGE, (80, 56), rotation=90),
        place(IMAGE, (80, 56), letterbox=True),
        place(IMAGE, (80, 56)),
    ):
        with pytest.raises(ValueError, match="must be writeable, contiguous"):
            placement.to_network(Frame.from_rgb(noise(*IMAGE)), np.empty((56, 81, 3), np.uint8))
        with pytest.raises(ValueError, match="must be writeable, contiguous"):
            placement.labels_back(np.zeros((56, 80), np.uint8), np.empty((64, 97), np.uint8))


@pytest.mark.parametrize("region", [Region(60, 0, 37, 32), Region(0, 33, 32, 32), Region(-1, 0, 32, 32)])
def test_a_region_outside_of_the_image_is_an_error_of_the_image(region: Region) -> None:
    with pytest.raises(
        ImageError, match=r"roi is \[.*\], .*the image has 96x64 px; it must lie within"
    ) as at:
        place(IMAGE, (48, 32), region=region)
    assert at.value.reason == "roi_outside"


def test_while_the_network_has_another_size_a_mask_keeps_its_own() -> None:
    placement = place(IMAGE, (40, 40), own=(48, 32), resolution="network")
    assert (placement.network, placement.mask) == ((40, 40), (48, 32))


def test_values_that_cannot_be_used_are_sentences() -> None:
    assert check_roi([0, 0, 32, 32]) == check_resolution("320x240") == check_resolution("network") == ""
    assert "four numbers" in check_roi([1, 2, 3])
    assert "from 32 to 7680" in check_roi([0, 0, 31, 32])
    for resolution in ("", "0x10", "320", "320 x 240", "99999x2", "7681x100", "inputs"):
        assert "a size as 320x240" in check_resolution(resolution)
    with pytest.raises(PlacementError, match="'big' is no size of masks"):
        place(IMAGE, (48, 32), resolution="big")


def test_width_keeps_the_aspect_ratio_in_multiples_of_eight() -> None:
    assert [width_for(size, 360) for size in ((640, 480), (360, 640), (32, 7680), (7680, 32))] == [
        480,
        200,
        32,
        7680,
    ]


SENSOR = Calibration(
    (640, 360),
    (500.0, 0.0, 322.5, 0.0, 510.0, 181.25, 0.0, 0.0, 1.0),
    (490.0, 0.0, 320.0, -40.0, 0.0, 505.0, 180.0, 8.0, 0.0, 0.0, 1.0, 0.0),
    (0, 0),
    Region(0, 0, 0, 0),
)
CAMERAS = [
    (SENSOR, (640, 360)),
    (SENSOR._replace(binning=(2, 2)), (320, 180)),
    (SENSOR._replace(roi=Region(161, 93, 320, 180)), (320, 180)),
    (SENSOR._replace(binning=(2, 1), roi=Region(40, 91, 400, 200)), (200, 200)),
]


def project(camera: Calibration, point: tuple[float, float, float], use_p: bool) -> tuple[float, float]:
    """A point's place in the image that goes with a calibration, as image_geometry reads one."""
    x, y, z = point
    if use_p:
        u, v, w = np.array(camera.p).reshape(3, 4) @ (x, y, z, 1.0)
    else:
        u, v, w = np.array(camera.k).reshape(3, 3) @ (x, y, z)
    binning = [max(1, binning) for binning in camera.binning]
    return (u / w - camera.roi.x) / binning[0], (v / w - camera.roi.y) / binning[1]


@pytest.mark.parametrize(("camera", "image"), CAMERAS)
@pytest.mark.parametrize("region", [None, Region(33, 21, 101, 64)])
@pytest.mark.parametrize("resolution", ["input", "network", "77x51"])
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_point_is_seen_at_the_same_place_of_the_mask(
    camera: Calibration, image: tuple[int, int], region: Region | None, resolution: str, rotation: int
) -> None:
    placement = place(image, (72, 40), region=region, resolution=resolution, rotation=rotation)
    mask = placement.calibration(camera)
    cover = placement.cover
    for point, use_p in itertools.product(
        [(0.0, 0.0, 1.0), (0.3, -0.2, 2.0), (-1.0, 0.5, 3.0)], (False, True)
    ):
        u, v = project(camera, point, use_p)
        expected = (
            (u - cover.x) * placement.mask[0] / cover.width,
            (v - cover.y) * placement.mask[1] / cover.height,
        )
        assert project(mask, point, use_p) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("roi", [Region(0, 0, 0, 0), Region(1, 3, 657, 485)])
def test_what_binning_leaves_over_of_a_sensor_is_no_pixel_of_the_mask(roi: Region) -> None:
    camera = SENSOR._replace(size=(659, 493), binning=(2, 2), roi=roi)
    image = (roi.width or 659) // 2, (roi.height or 493) // 2
    placement = place(image, (72, 40), resolution="640x480")
    info = placement.calibration(camera)
    # As image_geometry and Nav2 read it.
    width, height = info.roi.width or info.size[0], info.roi.height or info.size[1]
    assert (width // 2, height // 2) == placement.mask == (640, 480)
    assert info.size[0] >= info.roi.x + info.roi.width and info.size[1] >= info.roi.y + info.roi.height


def crop_node(camera: Calibration, region: Region) -> Calibration:
    """What image_proc's crop_decimate node publishes: the region of interest alone moves."""
    binning = [max(1, binning) for binning in camera.binning]
    roi = Region(
        camera.roi.x + region.x * binning[0],
        camera.roi.y + region.y * binning[1],
        region.width * binning[0],
        region.height * binning[1],
    )
    return camera._replace(roi=roi)


def resize_node(camera: Calibration, scale_x: float, scale_y: float) -> Calibration:
    """What image_proc's resize node publishes."""
    k, p = list(camera.k), list(camera.p)
    for matrix, columns, rows in ((k, (0, 2), (4, 5)), (p, (0, 2, 3), (5, 6))):
        for index in columns:
            matrix[index] *= scale_x
        for index in rows:
            matrix[index] *= scale_y
    scales = scale_x, scale_y, scale_x, scale_y
    roi = Region(*(int(number * scale) for number, scale in zip(camera.roi, scales)))
    return Calibration(
        (int(camera.size[0] * scale_x), int(camera.size[1] * scale_y)),
        tuple(k),
        tuple(p),
        camera.binning,
        roi,
    )


def test_cut_and_resized_as_image_proc_does() -> None:
    # No vertical baseline: the resize node leaves it alone.
    camera = SENSOR._replace(p=(*SENSOR.p[:7], 0.0, *SENSOR.p[8:]))
    region = Region(64, 32, 320, 240)
    cut = place((640, 360), (320, 240), region=region, resolution="network")
    assert cut.calibration(camera) == crop_node(camera, region)
    both = place((640, 360), (160, 60), region=region, resolution="network")
    assert both.calibration(camera) == resize_node(crop_node(camera, region), 0.5, 0.25)
    resized = place((640, 360), (160, 60), region=region, resolution="320x90")
    assert resized.calibration(camera) == resize_node(camera, 0.5, 0.25)
    assert place((640, 360), (160, 60), region=region).calibration(camera) is camera


def test_a_turned_picture_is_recognised_at_its_place() -> None:
    # A white square in the upper left of a camera that hangs upside down: the network has it lower right.
    rgb = np.zeros((64, 96, 3), np.uint8)
    cv2.rectangle(rgb, (8, 4), (31, 19), (255, 255, 255), -1)
    placement = place(IMAGE, (48, 32), rotation=180)
    seen = placement.to_network(Frame.from_rgb(rgb))
    assert seen[28, 42].tolist() == [255] * 3
    labels = (seen[..., 0] > 127).astype(np.uint8)
    np.testing.assert_array_equal(placement.labels_back(labels), rgb[..., 0] // 255)
