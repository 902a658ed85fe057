"""Labelled clouds against formulas written point by point, and read back by their offsets."""

from __future__ import annotations

import dataclasses
import math
import struct

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


# The second camera of a stereo pair, 0.12 m to the right of the first one and 0.03 m below it.
SECOND = dataclasses.replace(CAMERA, tx=-0.12 * 41.0, ty=-0.03 * 43.0)
P = np.array([[41.0, 0, 25.3, -0.12 * 41.0], [0, 43.0, 17.9, -0.03 * 43.0], [0, 0, 1, 0]])


def test_points_of_a_stereo_pair_fall_where_the_whole_of_p_projects_them() -> None:
    rng = np.random.default_rng(11)
    points = rng.uniform((-1.5, -1.2, 0.4), (1.5, 1.2, 6.0), (1, 4000, 3)).astype(np.float32)
    labels = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    rotation, translation = rotation_matrix([0.1, -0.05, 0.02, 0.99]), np.array([0.05, -0.1, 0.2])
    u, v, w = P @ np.vstack([rotation @ points[0].T + translation[:, None], np.ones(4000)])
    column, row = u / w, v / w
    inside = (column > -0.5) & (column < WIDTH - 0.5) & (row > -0.5) & (row < HEIGHT - 0.5)
    expected = labels[np.rint(row[inside]).astype(int), np.rint(column[inside]).astype(int)]
    cloud = cloud_of_points(points, (labels % 251).astype(np.uint8), SECOND, rotation, translation)
    found = cloud[0].view(np.uint32)[:, 5]
    assert 1000 < inside.sum() < 4000 and (found[~inside] == 255).all()
    # What lies on the border of two pixels may be rounded either way.
    assert (found[inside] == expected % 251).mean() > 0.999


def test_a_point_of_depth_is_where_p_projects_it_into_its_pixel(scene: dict[str, np.ndarray]) -> None:
    depth = scene["depth"]
    depth[0, 0] = math.nan
    cloud = cloud_of_depth(depth, scene["labels"], SECOND)
    points = cloud.reshape(-1, 8)[1:, :3].astype(np.float64)
    u, v, w = P @ np.vstack([points.T, np.ones(len(points))])
    row, column = (place.reshape(-1)[1:] for place in np.indices((HEIGHT, WIDTH)))
    np.testing.assert_allclose(points[:, 2], depth.reshape(-1)[1:])
    np.testing.assert_allclose(u / w, column, atol=1e-4)
    np.testing.assert_allclose(v / w, row, atol=1e-4)
    assert np.isnan(cloud[0, 0, :3]).all()
    # So the cloud that it makes gets its own labels back, as any other sensor's.
    again = cloud_of_points(cloud[..., :3], scene["labels"], SECOND, UPRIGHT, AT_CAMERA)
    assert (again[..., 5].view(np.uint32).reshape(-1)[1:] == scene["labels"].reshape(-1)[1:]).all()


def test_the_range_of_depth_is_from_the_camera_of_a_stereo_pair(scene: dict[str, np.ndarray]) -> None:
    selection = Selection(max_range_m=9.0)
    one, two = (
        cloud_of_depth(scene["depth"], scene["labels"], c, selection=selection) for c in (CAMERA, SECOND)
    )
    assert (np.isnan(one[..., 2]) == np.isnan(two[..., 2])).all()


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


def test_bands_of_rows_do_not_show() -> None:
    # More pixels than one band has, and a last band that is not full.
    height, width = 45, 1000
    rng = np.random.default_rng(4)
    camera = Camera(width, height, 410.0, 430.0, 499.0, 17.9)
    labels = rng.integers(0, 256, (height, width)).astype(np.uint8)
    rgb = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    depth = rng.uniform(-1, 9, (height, width)).astype(np.float32)
    selection = Selection(1.0, 8.0, drop=frozenset({7}))
    cloud = cloud_of_depth(depth, labels, camera, confidence=labels, rgb=rgb, selection=selection)
    points = np.ascontiguousarray(cloud[..., :3])
    again = cloud_of_camera_points(points, labels, confidence=labels, rgb=rgb)
    assert again.tobytes() == cloud.tobytes()
    for top in range(height):
        row = slice(top, top + 1)
        of_row = Camera(width, 1, 410.0, 430.0, 499.0, 17.9 - top)
        alone = cloud_of_depth(
            depth[row], labels[row], of_row, confidence=labels[row], rgb=rgb[row], selection=selection
        )
        np.testing.assert_allclose(cloud[row, :, :3], alone[..., :3], rtol=1e-5, atol=1e-5)
        assert cloud[row, :, 4:].tobytes() == alone[..., 4:].tobytes()


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
