"""Labelled clouds against formulas written point by point, and read back by the fields' offsets."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import (
    Selection,
    cloud_of_camera_points,
    cloud_of_depth,
    cloud_of_points,
    without_gaps,
)
from rt_segmentation.imaging.cloud_fields import FIELDS, POINT_STEP, view_depth, view_points
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.voxels import voxel_grid
from rt_segmentation.runtime.transforms import rotation_matrix

HEIGHT, WIDTH = 37, 53
CAMERA = Camera(WIDTH, HEIGHT, 41.0, 43.0, 25.3, 17.9)
UPRIGHT, AT_CAMERA = np.eye(3), np.zeros(3)


def read(cloud: np.ndarray, row: int, column: int) -> tuple[float, float, float, int, int, float]:
    """x, y, z, 0xRRGGBB, label and confidence of a point, as PCL's PointXYZRGBL has them."""
    data, start = cloud.tobytes(), (row * cloud.shape[1] + column) * 32
    x, y, z = struct.unpack_from("<fff", data, start)
    rgb, label = struct.unpack_from("<II", data, start + 16)
    (confidence,) = struct.unpack_from("<f", data, start + 24)
    return x, y, z, rgb, label, confidence


@pytest.fixture()
def scene() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "labels": rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8),
        "confidence": rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8),
        "rgb": rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8),
        "depth": rng.uniform(0.5, 20.0, (HEIGHT, WIDTH)).astype(np.float32),
    }


def test_the_layout_is_that_of_pcl() -> None:
    assert [(name, offset) for name, offset, _ in FIELDS] == [
        ("x", 0),
        ("y", 4),
        ("z", 8),
        ("rgb", 16),
        ("label", 20),
        ("confidence", 24),
    ]
    assert POINT_STEP == 32


@pytest.mark.parametrize("unit", ["m", "mm"])
def test_depth_becomes_points_by_the_pinhole_formula(scene: dict[str, np.ndarray], unit: str) -> None:
    depth = scene["depth"] if unit == "m" else np.rint(scene["depth"] * 1000).astype(np.uint16)
    cloud = cloud_of_depth(depth, scene["labels"], CAMERA, confidence=scene["confidence"], rgb=scene["rgb"])
    assert cloud.shape == (HEIGHT, WIDTH, 8)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            metres = float(depth[row, column]) / (1 if unit == "m" else 1000)
            x, y, z, rgb, label, confidence = read(cloud, row, column)
            assert z == pytest.approx(metres, rel=1e-6)
            assert x == pytest.approx((column - 25.3) / 41.0 * metres, rel=1e-5, abs=1e-5)
            assert y == pytest.approx((row - 17.9) / 43.0 * metres, rel=1e-5, abs=1e-5)
            red, green, blue = (int(value) for value in scene["rgb"][row, column])
            assert rgb == red << 16 | green << 8 | blue
            assert label == scene["labels"][row, column]
            assert confidence == pytest.approx(scene["confidence"][row, column] / 255, abs=1e-7)


def test_a_pixel_without_a_depth_has_no_place_and_keeps_its_label(scene: dict[str, np.ndarray]) -> None:
    depth = scene["depth"]
    depth[0, :4] = 0.0, math.nan, math.inf, -math.inf
    cloud = cloud_of_depth(depth, scene["labels"], CAMERA)
    for column in range(4):
        x, y, z, _, label, _ = read(cloud, 0, column)
        assert math.isnan(x) and math.isnan(y) and math.isnan(z)
        assert label == scene["labels"][0, column]
    assert np.isfinite(cloud[0, 4:, :3]).all()
    assert without_gaps(cloud).shape == (1, HEIGHT * WIDTH - 4, 8)
    none = cloud_of_depth(np.zeros((HEIGHT, WIDTH), np.uint16), scene["labels"], CAMERA)
    assert np.isnan(none[..., :3]).all()


def test_without_confidence_and_colour_they_are_1_and_0(scene: dict[str, np.ndarray]) -> None:
    *_, rgb, _, confidence = read(cloud_of_depth(scene["depth"], scene["labels"], CAMERA), 3, 4)
    assert (rgb, confidence) == (0, 1.0)


def test_no_colour_is_a_float_that_is_nan(scene: dict[str, np.ndarray]) -> None:
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    cloud = cloud_of_depth(scene["depth"], scene["labels"], CAMERA, rgb=white)
    assert np.isfinite(cloud[..., 4]).all()
    assert read(cloud, 0, 0)[3] == 0xFFFFFF


def test_out_of_range_and_classes_left_out_have_no_place(scene: dict[str, np.ndarray]) -> None:
    selection = Selection(2.0, 9.0, keep=frozenset(range(100)), drop=frozenset(range(50, 256)))
    cloud = cloud_of_depth(scene["depth"], scene["labels"], CAMERA, selection=selection)
    full = cloud_of_depth(scene["depth"], scene["labels"], CAMERA)
    distance = np.linalg.norm(full[..., :3].astype(float), axis=-1)
    wanted = (distance >= 2.0) & (distance <= 9.0) & (scene["labels"] < 50)
    assert np.array_equal(np.isfinite(cloud[..., :3]).all(axis=-1), wanted)
    assert 0 < wanted.sum() < wanted.size
    again = cloud_of_camera_points(full[..., :3].copy(), scene["labels"], selection=selection)
    assert np.array_equal(again, cloud, equal_nan=True)


def test_an_organised_cloud_gets_the_labels_of_its_pixels(scene: dict[str, np.ndarray]) -> None:
    by_depth = cloud_of_depth(
        scene["depth"], scene["labels"], CAMERA, confidence=scene["confidence"], rgb=scene["rgb"]
    )
    by_points = cloud_of_camera_points(
        by_depth[..., :3].copy(), scene["labels"], confidence=scene["confidence"], rgb=scene["rgb"]
    )
    assert by_points.tobytes() == by_depth.tobytes()


def test_a_cloud_that_is_written_again_has_nothing_of_the_one_before(scene: dict[str, np.ndarray]) -> None:
    out = cloud_of_depth(scene["depth"], scene["labels"], CAMERA, rgb=scene["rgb"])
    again = cloud_of_depth(scene["depth"] + 1, scene["labels"][::-1], CAMERA, out=out)
    fresh = cloud_of_depth(scene["depth"] + 1, scene["labels"][::-1], CAMERA)
    assert again is out
    assert again.tobytes() == fresh.tobytes()


def test_lidar_points_have_the_label_of_the_pixel_they_fall_into(scene: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-8, 8, (1, 4000, 3)).astype(np.float32)
    quaternion = (0.1, -0.2, 0.3, 0.9)
    rotation, translation = rotation_matrix(quaternion), np.array([0.3, -0.1, 0.5])
    cloud = cloud_of_points(
        points,
        scene["labels"],
        CAMERA,
        rotation,
        translation,
        confidence=scene["confidence"],
        rgb=scene["rgb"],
    )
    assert cloud.shape == (1, 4000, 8)
    labelled = borders = 0
    for number, point in enumerate(points[0].astype(float)):
        x, y, z = rotation @ point + translation
        u, v = 41.0 * x / z + 25.3, 43.0 * y / z + 17.9
        if min(abs(u % 1 - 0.5), abs(v % 1 - 0.5), abs(z)) < 1e-3:
            borders += 1
            continue
        column, row = round(u), round(v)
        inside = z > 0 and 0 <= column < WIDTH and 0 <= row < HEIGHT
        *place, rgb, label, confidence = read(cloud, 0, number)
        assert place == pytest.approx(points[0, number].tolist())
        if not inside:
            assert (rgb, label, confidence) == (0, 255, 0.0)
            continue
        labelled += 1
        red, green, blue = (int(value) for value in scene["rgb"][row, column])
        assert (rgb, label) == (red << 16 | green << 8 | blue, scene["labels"][row, column])
        assert confidence == pytest.approx(scene["confidence"][row, column] / 255, abs=1e-7)
    assert labelled > 200 and borders < 100


def test_every_depth_pixel_projects_into_itself(scene: dict[str, np.ndarray]) -> None:
    by_depth = cloud_of_depth(scene["depth"], scene["labels"], CAMERA)
    by_projection = cloud_of_points(by_depth[..., :3].copy(), scene["labels"], CAMERA, UPRIGHT, AT_CAMERA)
    assert by_projection.tobytes() == by_depth.tobytes()


def test_the_nearest_point_wins_a_pixel_where_asked() -> None:
    labels = np.full((HEIGHT, WIDTH), 7, np.uint8)
    direction = np.array([(30 - 25.3) / 41.0, (20 - 17.9) / 43.0, 1.0])
    depths = [5.0, 3.0, 9.0, 3.5, 2.0, 7.0]
    points = np.array([[direction * depth for depth in depths] + [[0, 0, 4.0]]], np.float32)
    every = cloud_of_points(points, labels, CAMERA, UPRIGHT, AT_CAMERA)
    assert [read(every, 0, i)[4] for i in range(7)] == [7] * 7
    nearest = cloud_of_points(points, labels, CAMERA, UPRIGHT, AT_CAMERA, nearest_wins=True)
    assert [read(nearest, 0, i)[4] for i in range(7)] == [255, 255, 255, 255, 7, 255, 7]


def test_of_many_points_in_few_pixels_the_nearest_ones_win() -> None:
    rng = np.random.default_rng(2)
    places = np.column_stack([rng.uniform(-0.1, 0.1, (500, 2)), rng.uniform(1, 2, 500)])
    points = places.astype(np.float32)[None]
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    cloud = cloud_of_points(points, labels, CAMERA, UPRIGHT, AT_CAMERA, nearest_wins=True)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for number, (x, y, z) in enumerate(points[0].astype(float)):
        pixel = round(41.0 * x / z + 25.3), round(43.0 * y / z + 17.9)
        best[pixel] = min(best.get(pixel, (math.inf, -1)), (z, number))
    winners = {number for _, number in best.values()}
    assert {number for number in range(500) if read(cloud, 0, number)[4] == 0} == winners
    assert len(winners) < 100


def test_a_lidar_cloud_without_some_classes_is_shorter_and_keeps_what_no_pixel_saw() -> None:
    labels = np.full((HEIGHT, WIDTH), 3, np.uint8)
    labels[:, 26:] = 5
    points = np.array([[[-0.5, 0, 2], [0.5, 0, 2], [0, 0, -2], [math.nan, 0, 2]]], np.float32)
    dropped = cloud_of_points(
        points, labels, CAMERA, UPRIGHT, AT_CAMERA, selection=Selection(drop=frozenset({3}))
    )
    assert [read(dropped, 0, i)[4] for i in range(dropped.shape[1])] == [5, 255]
    kept = cloud_of_points(
        points, labels, CAMERA, UPRIGHT, AT_CAMERA, selection=Selection(keep=frozenset({3}))
    )
    assert kept.shape == (1, 1, 8)
    nothing = cloud_of_points(
        points, labels, CAMERA, UPRIGHT, AT_CAMERA, selection=Selection(min_range_m=100.0)
    )
    assert nothing.shape == (1, 0, 8)


def test_points_that_are_nan_or_on_the_camera_are_unlabelled_without_a_warning() -> None:
    points = np.array([[[math.nan, 0, 1], [0, 0, 0], [math.inf, 0, 1], [0, 0, math.nan]]], np.float32)
    cloud = cloud_of_points(points, np.zeros((HEIGHT, WIDTH), np.uint8), CAMERA, UPRIGHT, AT_CAMERA)
    assert [read(cloud, 0, i)[4] for i in range(4)] == [255] * 4
    empty = cloud_of_points(points[:, :0], np.zeros((HEIGHT, WIDTH), np.uint8), CAMERA, UPRIGHT, AT_CAMERA)
    assert empty.shape == (1, 0, 8)


def test_a_voxel_has_the_mean_place_and_the_most_frequent_label() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(-1, 1, (1, 3000, 3)).astype(np.float32)
    points[0, 7] = math.nan
    labels = rng.integers(0, 3, (1, 3000)).astype(np.uint8)
    confidence = rng.integers(0, 256, (1, 3000)).astype(np.uint8)
    rgb = rng.integers(0, 256, (1, 3000, 3)).astype(np.uint8)
    cloud = cloud_of_camera_points(points, labels, confidence=confidence, rgb=rgb)
    grid = voxel_grid(cloud, 0.5)
    homes: dict[tuple[int, ...], list[int]] = {}
    for number, point in enumerate(points[0]):
        if number != 7:
            place = tuple(math.floor(float(value) / 0.5) for value in reversed(point))
            homes.setdefault(place, []).append(number)
    assert grid.shape == (1, len(homes), 8)
    for i, place in enumerate(sorted(homes)):
        members = homes[place]
        counts = np.bincount(labels[0, members])
        winner = int(counts.argmax())
        voters = [number for number in members if labels[0, number] == winner]
        x, y, z, colour, label, certain = read(grid, 0, i)
        assert (x, y, z) == pytest.approx(points[0, members].astype(float).mean(axis=0).tolist(), abs=1e-5)
        assert label == winner
        assert certain == pytest.approx(confidence[0, voters].mean() / 255, abs=1e-5)
        mean = rgb[0, voters].astype(float).mean(axis=0)
        assert [colour >> 16, colour >> 8 & 255, colour & 255] == pytest.approx(mean.tolist(), abs=0.51)


def test_a_voxel_grid_of_nothing_is_empty_and_of_a_whole_country_refused() -> None:
    gaps = np.full((1, 4, 3), math.nan, np.float32)
    assert voxel_grid(cloud_of_camera_points(gaps, np.zeros((1, 4), np.uint8)), 0.1).shape == (1, 0, 8)
    far = np.array([[[0, 0, 0], [1e6, 0, 0]]], np.float32)
    with pytest.raises(ImageError, match="1000000 m wide, too much for voxels"):
        voxel_grid(cloud_of_camera_points(far, np.zeros((1, 2), np.uint8)), 0.1)


def test_sizes_that_differ_are_refused(scene: dict[str, np.ndarray]) -> None:
    with pytest.raises(ImageError, match="depth image is 53x36 and the mask 53x37 px"):
        cloud_of_depth(scene["depth"][:-1], scene["labels"], CAMERA)
    with pytest.raises(ImageError, match="the mask's own camera_info"):
        cloud_of_depth(scene["depth"], scene["labels"], Camera(64, 48, 50.0, 50.0, 32.0, 24.0))
    with pytest.raises(ImageError, match="the mask's own camera_info"):
        cloud_of_points(
            np.zeros((1, 4, 3), np.float32),
            scene["labels"],
            Camera(64, 48, 50.0, 50.0, 32.0, 24.0),
            UPRIGHT,
            AT_CAMERA,
        )


# --- messages' bytes ---------------------------------------------------------------------------------------


def test_depth_images_are_views_in_either_byte_order() -> None:
    depth = np.random.default_rng(0).uniform(0, 9, (HEIGHT, WIDTH)).astype(np.float32)
    padded = np.zeros((HEIGHT, WIDTH + 3), np.float32)
    padded[:, :WIDTH] = depth
    little = view_depth("32FC1", WIDTH, HEIGHT, 4 * WIDTH + 12, False, padded.tobytes())
    assert np.array_equal(little, depth)
    big = view_depth("32FC1", WIDTH, HEIGHT, 4 * WIDTH, True, depth.astype(">f4").tobytes())
    assert np.array_equal(big, depth) and big.dtype.isnative
    millimetres = (depth * 1000).astype(np.uint16)
    for order in (False, True):
        data = millimetres.astype(">u2" if order else "<u2").tobytes()
        view = view_depth("16UC1", WIDTH, HEIGHT, 2 * WIDTH, order, data)
        assert np.array_equal(view, millimetres) and view.dtype == np.uint16


@pytest.mark.parametrize("encoding", ["rgb8", "32FC3", "16SC1"])
def test_a_depth_image_of_another_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ImageError, match=f"encoding is '{encoding}'; it must be 16UC1"):
        view_depth(encoding, WIDTH, HEIGHT, 12 * WIDTH, False, bytes(12 * WIDTH * HEIGHT))


def fields(**offsets: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(name=name, offset=offset, datatype=7) for name, offset in offsets.items()]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("places", [(0, 4, 8), (4, 12, 0)])
def test_points_are_read_by_their_fields(order: str, places: tuple[int, int, int]) -> None:
    points = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
    step, row_step = 22, 5 * 22 + 7
    data = bytearray(3 * row_step)
    for row in range(3):
        for column in range(5):
            for value, place in zip(points[row, column], places):
                struct.pack_into(f"{order}f", data, row * row_step + column * step + place, value)
    named = fields(**dict(zip("xyz", places)), intensity=16)
    assert np.array_equal(view_points(named, 5, 3, step, row_step, order == ">", data), points)


def test_doubles_are_points_too() -> None:
    points = np.random.default_rng(0).normal(size=(1, 6, 3))
    named = [SimpleNamespace(name=n, offset=8 * i, datatype=8) for i, n in enumerate("xyz")]
    read_back = view_points(named, 6, 1, 24, 144, False, points.tobytes())
    assert np.array_equal(read_back, points.astype(np.float32))
    assert view_points(named, 0, 1, 24, 0, False, b"").shape == (1, 0, 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fields": fields(x=0, y=4, intensity=8)}, "has no field z; it has x, y, intensity"),
        ({"fields": []}, "has no field x, y, z; it has none"),
        (
            {"fields": [*fields(x=0, y=4), SimpleNamespace(name="z", offset=8, datatype=4)]},
            "z has datatype 4",
        ),
        ({"fields": fields(x=0, y=4, z=14)}, "z ends at byte 18; a point has 16 bytes"),
        ({"data": bytes(100)}, "of 4x2 points of 16 bytes has 100 bytes of data; it needs at least 128"),
        ({"row_step": 60}, "row_step is 60 bytes; 4 points of 16 bytes need at least 64"),
        ({"point_step": 0}, "points of 0 bytes"),
    ],
)
def test_a_damaged_cloud_has_its_sentence(change: dict[str, Any], sentence: str) -> None:
    message: dict[str, Any] = {
        "fields": fields(x=0, y=4, z=8),
        "width": 4,
        "height": 2,
        "point_step": 16,
        "row_step": 64,
        "is_bigendian": False,
        "data": bytes(128),
    }
    assert view_points(**message).shape == (2, 4, 3)
    with pytest.raises(ImageError, match=sentence):
        view_points(**{**message, **change})


# --- calibration -------------------------------------------------------------------------------------------


def info(**changes: Any) -> SimpleNamespace:
    values: dict[str, Any] = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [0.1, -0.2, 0.01, 0.02, 0.05],
        "k": [500.0, 0, 320.0, 0, 510.0, 240.0, 0, 0, 1],
        "p": [450.0, 0, 310.0, 0, 0, 460.0, 230.0, 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**{**values, **changes})


def test_p_is_of_the_rectified_image_and_k_of_the_raw_one() -> None:
    assert Camera.from_info(info(), rectified=True) == Camera(
        640, 480, 450.0, 460.0, 310.0, 230.0, "plumb_bob"
    )
    raw = Camera.from_info(info(), rectified=False)
    assert (raw.fx, raw.cy, raw.distortion) == (500.0, 240.0, (0.1, -0.2, 0.01, 0.02, 0.05))
    assert Camera.from_info(info(p=[0.0] * 12), rectified=True).fx == 500.0


def test_binning_and_region_are_taken_off() -> None:
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=200)
    camera = Camera.from_info(info(binning_x=2, binning_y=2, roi=roi), rectified=True)
    assert (camera.width, camera.height) == (200, 100)
    assert (camera.fx, camera.cx, camera.cy) == (225.0, 105.0, 95.0)


def test_a_camera_that_is_not_calibrated_is_refused() -> None:
    with pytest.raises(ImageError, match="must be calibrated"):
        Camera.from_info(info(k=[0.0] * 9, p=[0.0] * 12), rectified=True)
    with pytest.raises(ImageError, match="distortion model 'unheard_of' is not known"):
        Camera.from_info(info(distortion_model="unheard_of"), rectified=False)


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
def test_rays_of_a_distorted_image_project_back_into_their_pixels(model: str) -> None:
    coefficients = (0.1, -0.05, 0.002, -0.001) + ((0.01,) if model == "plumb_bob" else ())
    camera = Camera(64, 48, 60.0, 62.0, 31.0, 24.0, model, coefficients)
    x, y = camera.rays
    assert np.allclose(camera.ray_lengths, np.sqrt(x.astype(float) ** 2 + y**2 + 1))
    points = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 1, 3).astype(np.float64)
    project = cv2.projectPoints if model == "plumb_bob" else cv2.fisheye.projectPoints
    arguments = (np.zeros(3), np.zeros(3), camera.matrix, np.array(coefficients))
    pixels, _ = project(points, *arguments)
    expected = np.stack(np.meshgrid(np.arange(64), np.arange(48)), axis=-1)
    assert np.abs(pixels.reshape(48, 64, 2) - expected).max() < 0.05
