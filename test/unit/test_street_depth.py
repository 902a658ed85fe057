"""The street's depth image against its geometry, and the labelled cloud that comes of it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from rt_segmentation.data.street_depth import BEYOND_M
from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetClass, StreetScene
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import cloud_of_depth

WIDTH, HEIGHT = 320, 240
GROUND = (StreetClass.ROAD, StreetClass.PAVEMENT)


@lru_cache
def view(seed: int, time_s: float) -> tuple[np.ndarray, np.ndarray, Camera]:
    scene = StreetScene(seed, WIDTH, HEIGHT)
    focal, cx, cy = scene.pinhole(time_s)
    camera = Camera(WIDTH, HEIGHT, focal, focal, cx, cy)
    return scene.render(time_s)[1], scene.render_depth(time_s), camera


@pytest.mark.parametrize(("seed", "time_s"), [(1, 0.0), (7, 3.3), (40, 90.0)])
def test_a_pixel_of_the_road_is_as_far_as_the_camera_s_height_says(seed: int, time_s: float) -> None:
    labels, depth, camera = view(seed, time_s)
    row, column = np.nonzero(labels == StreetClass.ROAD)
    assert len(row) > 3000
    below = row - camera.cy
    expected = np.minimum(camera.fy * CAMERA_HEIGHT_M / np.maximum(below, 0.5), BEYOND_M)
    assert depth[row, column] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("seed", "time_s"), [(1, 0.0), (7, 3.3), (40, 90.0)])
def test_labels_in_space_are_where_such_things_are(seed: int, time_s: float) -> None:
    labels, depth, camera = view(seed, time_s)
    points = cloud_of_depth(depth, labels, camera)[..., :3].astype(float)
    height = CAMERA_HEIGHT_M - points[..., 1]
    near = depth < 40
    assert np.isinf(depth[labels == StreetClass.SKY]).mean() == 1.0
    for cls in GROUND:
        assert np.abs(height[(labels == cls) & near]).max() < 0.01
    # A pixel is coarse far away, and wheels and shoes are painted as lines of whole pixels.
    pixel = depth / camera.fy
    for cls, top in ((StreetClass.CAR, 2.4), (StreetClass.PEDESTRIAN, 2.2), (StreetClass.BICYCLIST, 2.2)):
        here = (labels == cls) & near
        slack = 0.15 + 2 * pixel[here]
        assert (height[here] > -slack).mean() > 0.99
        assert (height[here] < top + slack).mean() > 0.99
    walls = (labels == StreetClass.BUILDING) & near
    assert (height[walls] > -0.1 - 2 * pixel[walls]).all()
    assert height[walls].max() > 3.0


def test_only_what_is_far_behind_everything_has_no_depth() -> None:
    labels, depth, _ = view(7, 3.3)
    backdrop = {StreetClass.SKY, StreetClass.BUILDING, StreetClass.TREE}
    assert set(np.unique(labels[np.isinf(depth)])) <= backdrop
    assert depth.dtype == np.float32 and depth.min() > 0.5 and not np.isnan(depth).any()


def test_a_wall_recedes_evenly() -> None:
    labels, depth, camera = view(40, 90.0)
    x = (np.arange(WIDTH) - camera.cx) / camera.fx * depth
    # Left of the road there is a row of houses: their fronts are some metres away, wherever they are seen.
    walls = (labels == StreetClass.BUILDING) & (depth < 25)
    assert walls.any()
    assert np.abs(x[walls]).min() > 4.0 and np.abs(x[walls]).max() < 30.0
