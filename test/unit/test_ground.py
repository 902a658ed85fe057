"""The ground of masks on the plane under the camera, against geometry worked out by hand and OpenCV's."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest

from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetClass, StreetScene
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.ground import BLOCKED, FREE, UNSEEN, GridSpec, GroundProjection, kinds

WIDTH, HEIGHT, HIGH_M = 160, 120, 1.2
LEVEL = Camera(WIDTH, HEIGHT, 110.0, 110.0, 79.5, 40.0)
# The optical axes (z ahead, x right, y down) in a frame with x ahead and z up.
AHEAD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
GRID = GridSpec((0.0, 8.0), (-4.0, 4.0), 0.1, 8.0)
TABLE = kinds({3})
ROAD, WALL = 3, 1


def place(height_m: float = HIGH_M, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return np.array([x, y, height_m])


def pitched(degrees: float, roll: float = 0.0) -> np.ndarray:
    """A camera that looks down by so much, turned about its axis."""
    a, r = math.radians(degrees), math.radians(roll)
    down = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]]).T
    turn = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return np.asarray(AHEAD @ down.T @ turn)


def wall_ahead(camera: Camera, rotation: np.ndarray, translation: np.ndarray, x_m: float) -> np.ndarray:
    """The mask of a plane that ends at an endless wall at x, pixel by pixel."""
    ray_x, ray_y = camera.rays
    rays = np.stack([ray_x, ray_y, np.ones_like(ray_x)], axis=-1) @ rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = -translation[2] / rays[..., 2]
        ground = (rays[..., 2] < 0) & (rays[..., 0] * reach + translation[0] < x_m)
    return np.where(ground, ROAD, WALL).astype(np.uint8)


@pytest.mark.parametrize("rotation", [AHEAD, pitched(20.0, roll=15.0)], ids=["level", "rolled"])
def test_the_second_camera_of_a_stereo_pair_sees_from_its_own_place(rotation: np.ndarray) -> None:
    second = dataclasses.replace(LEVEL, tx=-0.5 * LEVEL.fx, ty=-0.1 * LEVEL.fy)
    # Half a metre to the right of the frame's origin and a tenth below it.
    own = place(x=0.3, y=-0.2) + rotation @ np.array([0.5, 0.1, 0.0])
    labels = wall_ahead(LEVEL, rotation, own, 3.3)
    view = GroundProjection(second, rotation, place(x=0.3, y=-0.2), GRID).view(labels, TABLE)
    alone = GroundProjection(LEVEL, rotation, own, GRID).view(labels, TABLE)
    assert view.foot == pytest.approx(tuple(own[:2]))
    np.testing.assert_allclose(view.ranges, alone.ranges)
    assert (view.cells == alone.cells).all() and (view.cells == FREE).any()


@pytest.mark.parametrize(
    ("camera", "rotation"),
    [
        (LEVEL, AHEAD),
        (LEVEL, pitched(25.0)),
        (LEVEL, pitched(20.0, roll=15.0)),
        (
            dataclasses.replace(LEVEL, distortion_model="plumb_bob", distortion=(-0.2, 0.03, 0.001, -0.002)),
            AHEAD,
        ),
        (dataclasses.replace(LEVEL, distortion_model="equidistant", distortion=(0.02, -0.01)), pitched(15.0)),
    ],
    ids=["level", "pitched", "rolled", "distorted", "fisheye"],
)
def test_a_wall_is_where_it_stands(camera: Camera, rotation: np.ndarray) -> None:
    translation, wall_m = place(x=0.3, y=-0.2), 3.3
    view = GroundProjection(camera, rotation, translation, GRID).view(
        wall_ahead(camera, rotation, translation, wall_m), TABLE
    )
    assert view.foot == (0.3, -0.2) and len(view.ranges) == WIDTH
    angles = view.angle_min + view.angle_increment * np.arange(WIDTH)
    ends = np.isfinite(view.ranges)
    x = view.foot[0] + view.ranges * np.cos(angles)
    middle = ends & (np.abs(angles) < 0.3)
    assert middle.sum() > 40
    # A row of the image is 0.05 to 0.1 m there.
    assert np.abs(x[middle] - wall_m).max() < 0.12
    # Nothing is free behind the wall, and what is seen before it is; a cell's middle is at 0.05.
    assert not (view.cells[:, 34:] == FREE).any()
    seen = view.cells[38:40, 28:32]
    assert (seen == FREE).all()
    assert BLOCKED in view.cells[38:40, 32:35] and not (view.cells[38:40, 36:] == BLOCKED).any()


@pytest.mark.parametrize("wall_m", [0.8, 2.0, 3.3, 6.0])
@pytest.mark.parametrize("degrees", [40.0, 45.0, 55.0])
def test_a_wall_is_where_it_stands_for_a_camera_that_sees_the_point_under_itself(
    degrees: float, wall_m: float
) -> None:
    wide = Camera(WIDTH, HEIGHT, 45.0, 45.0, 79.5, 59.5)
    labels = wall_ahead(wide, pitched(degrees), place(0.6), wall_m)
    view = GroundProjection(wide, pitched(degrees), place(0.6), GRID).view(labels, TABLE)
    angles = view.angle_min + view.angle_increment * np.arange(WIDTH)
    ahead = np.abs(angles) < 0.1
    # At its range a row of the image is so much of the ground.
    row_m = (wall_m**2 + 0.6**2) / 0.6 / 45.0
    np.testing.assert_allclose(view.ranges[ahead] * np.cos(angles[ahead]), wall_m, atol=row_m)
    columns = np.flatnonzero((view.cells[38:42] == BLOCKED).any(axis=0)) * GRID.resolution_m
    assert wall_m - row_m - 0.1 <= columns.min() and columns.max() <= wall_m + row_m + 0.1


def test_a_pole_is_blocked_and_its_shadow_is_not_known() -> None:
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[:41] = WALL
    # A pole in the middle columns, 2.2 m ahead: its foot is at the row cy + f * h / 2.2.
    labels[: round(40 + 110 * HIGH_M / 2.2), 77:83] = 2
    view = GroundProjection(LEVEL, AHEAD, place(), GRID).view(labels, TABLE)
    assert view.ranges[WIDTH // 2] == pytest.approx(2.2, abs=0.03)
    assert math.isinf(view.ranges[WIDTH // 2 + 8])
    row = view.cells[39:41]
    assert BLOCKED in row[:, 21:23] and not (row[:, 24:36] == BLOCKED).any()
    assert UNSEEN in row[:, 26:36]
    # The ground beside it goes on.
    assert (view.cells[46, 24:40] == FREE).all()


def test_what_is_unlabelled_ends_a_beam_and_blocks_nothing() -> None:
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[70:80] = 255
    view = GroundProjection(LEVEL, AHEAD, place(), GRID).view(labels, TABLE)
    # The gap's lower edge is the row 79.5.
    assert view.ranges[WIDTH // 2] == pytest.approx(110 * HIGH_M / 39.5, abs=0.06)
    assert not (view.cells == BLOCKED).any()
    assert (view.cells[40, 34:42] == UNSEEN).all() and view.cells[40, 60] == FREE


def test_a_mask_of_nothing_says_nothing() -> None:
    view = GroundProjection(LEVEL, AHEAD, place(), GRID).view(np.full((HEIGHT, WIDTH), 255, np.uint8), TABLE)
    assert np.isnan(view.ranges).all() and not view.cells.any()


def test_a_camera_that_looks_straight_down_sees_all_around_its_foot() -> None:
    down = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    camera = Camera(WIDTH, HEIGHT, 60.0, 60.0, 79.5, 59.5)
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[:, 120:] = WALL  # To the image's right, which is to the robot's right.
    view = GroundProjection(camera, down, place(), GridSpec((-2, 2), (-2, 2), 0.1, 5.0)).view(labels, TABLE)
    assert view.angle_increment * len(view.ranges) == pytest.approx(2 * math.pi, abs=0.02)
    angles = view.angle_min + view.angle_increment * np.arange(len(view.ranges))
    right, left = (
        int(np.abs(np.angle(np.exp(1j * (angles - a)))).argmin()) for a in (-math.pi / 2, math.pi / 2)
    )
    assert view.ranges[right] == pytest.approx(40 * HIGH_M / 60, abs=0.03)
    # To the left the image ends, and what is seen with it.
    assert view.ranges[left] == pytest.approx(80 * HIGH_M / 60, abs=0.03)
    assert BLOCKED in view.cells[11:13, 20] and not (view.cells[20:] == BLOCKED).any()


def test_a_camera_that_looks_back_has_angles_without_a_jump() -> None:
    back = np.diag([-1.0, -1, 1]) @ AHEAD
    view = GroundProjection(LEVEL, back, place(), GridSpec((-8, 0), (-4, 4), 0.1, 8.0)).view(
        np.full((HEIGHT, WIDTH), ROAD, np.uint8), TABLE
    )
    assert 0 < view.angle_increment * WIDTH < math.pi
    assert abs(view.angle_min + view.angle_increment * WIDTH / 2) == pytest.approx(math.pi, abs=0.02)
    assert (view.cells[38:42, 20:60] == FREE).all()


@pytest.mark.parametrize(
    ("reason", "rotation", "height_m", "sentence"),
    [
        (
            "no_ground",
            pitched(-60.0),
            HIGH_M,
            "No pixel sees the ground within 8 m: .* its lowest ray points .* up",
        ),
        (
            "no_ground",
            AHEAD,
            90.0,
            "the camera is 90.00 m above it, and its lowest ray points 35.. degrees down",
        ),
        ("below_ground", AHEAD, -0.3, "The camera is -0.30 m above the ground plane; it must be above it"),
    ],
)
def test_a_camera_without_ground_has_its_sentence(
    reason: str, rotation: np.ndarray, height_m: float, sentence: str
) -> None:
    with pytest.raises(ImageError, match=sentence) as caught:
        GroundProjection(LEVEL, rotation, place(height_m), GRID)
    assert caught.value.reason == reason


def test_a_mask_of_another_size_is_refused() -> None:
    projection = GroundProjection(LEVEL, AHEAD, place(), GRID)
    with pytest.raises(ImageError, match="The camera_info is of 160x120 px and the mask of 80x60 px"):
        projection.view(np.zeros((60, 80), np.uint8), TABLE)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", (-0.31, 0.12, 0.0011, -0.0007, -0.02)),
        ("rational_polynomial", (0.4, -0.2, 0.001, 0.0004, 0.01, 0.7, -0.1, 0.02)),
        ("equidistant", (0.04, -0.02, 0.005, -0.001)),
    ],
)
def test_points_fall_into_the_pixels_that_opencv_gives(model: str, coefficients: tuple[float, ...]) -> None:
    camera = dataclasses.replace(LEVEL, distortion_model=model, distortion=coefficients)
    rng = np.random.default_rng(3)
    points = np.column_stack([rng.uniform(-2, 2, (500, 2)), rng.uniform(2.5, 6, 500)])
    row, column, inside = camera.pixels_of(*points.astype(np.float32).T)
    d = np.array(coefficients)
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    order = (camera.matrix, d)
    found = project(points[:, None], np.zeros(3), np.zeros(3), *order)[0].reshape(-1, 2)
    assert inside.sum() > 200
    assert np.abs(found[inside] - np.column_stack([column, row])[inside]).max() <= 0.501
    # None that OpenCV puts well into the image is missing.
    within = (found > 1).all(axis=1) & (found[:, 0] < WIDTH - 2) & (found[:, 1] < HEIGHT - 2)
    assert inside[within].all()


def test_a_lens_s_polynomial_does_not_turn_points_back_into_the_image() -> None:
    camera = dataclasses.replace(LEVEL, distortion_model="plumb_bob", distortion=(-0.35, 0.0, 0.0, 0.0))
    far = np.array([3.0], np.float32)
    assert not camera.pixels_of(far, far * 0, np.ones(1, np.float32))[2].any()


def true_ends(scene: StreetScene, time_s: float, angles: np.ndarray) -> np.ndarray:
    """How far the lowest pixel that is not ground is, by the depth image; NaN where it is above the plane.

    Nothing of the projection is used: the street's camera is level, and a column is a direction.
    """
    labels, depth = scene.render(time_s)[1], scene.render_depth(time_s)
    focal, cx, cy = scene.pinhole(time_s)
    height, width = labels.shape
    other = ~np.isin(labels, (StreetClass.ROAD, StreetClass.PAVEMENT))
    lowest = height - 1 - other[::-1].argmax(axis=0), np.arange(width)
    up = CAMERA_HEIGHT_M - (lowest[0] - cy) / focal * depth[lowest]
    own = np.arctan2(cx - np.arange(width), focal)
    ends = np.where(np.abs(up) < 0.05, depth[lowest] / np.cos(own), np.nan)
    return np.asarray(ends[np.abs(own[None] - angles[:, None]).argmin(axis=1)])


def test_the_street_s_free_space_ends_where_its_geometry_says() -> None:
    errors = []
    for seed in (1, 4):
        scene = StreetScene(seed, 320, 180)
        focal, cx, cy = scene.pinhole(2.0)
        camera = Camera(320, 180, focal, focal, cx, cy)
        grid = GridSpec((0.0, 20.0), (-10.0, 10.0), 0.1, 20.0)
        view = GroundProjection(camera, AHEAD, place(CAMERA_HEIGHT_M), grid).view(
            scene.render(2.0)[1], kinds({StreetClass.ROAD, StreetClass.PAVEMENT})
        )
        angles = view.angle_min + view.angle_increment * np.arange(len(view.ranges))
        truth = true_ends(scene, 2.0, angles)
        both = (truth < 15) & np.isfinite(view.ranges)
        assert both.sum() > 40
        # In rows of the image: the border is half a row before the pixel's middle.
        row_m = truth**2 / (focal * CAMERA_HEIGHT_M)
        errors.append(((view.ranges - truth) / row_m)[both])
    assert np.abs(np.median(np.concatenate(errors)) + 0.5) < 0.5
    assert np.percentile(np.abs(np.concatenate(errors)), 95) < 2
