"""A calibrated camera: what it reads of a camera_info, and where its pixels look."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError


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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_offset": 500, "width": 400}, "ends at 900 px of a width of 640 px"),
        ({"y_offset": 1, "height": 480}, "ends at 481 px of a height of 480 px"),
    ],
)
def test_a_region_that_is_not_on_the_sensor_is_refused(changes: dict[str, int], words: str) -> None:
    roi = SimpleNamespace(**{"x_offset": 0, "y_offset": 0, "width": 0, "height": 0, **changes})
    with pytest.raises(ImageError, match=words):
        Camera.from_info(info(roi=roi), rectified=True)
    if "width" in changes:
        # Of a driver that gives the size after binning.
        assert Camera.from_info(info(roi=roi, binning_x=2), rectified=True).width == 200


def test_focal_lengths_as_shares_of_the_image_are_refused() -> None:
    with pytest.raises(ImageError, match=r"fx 0\.8.* with focal lengths of 1 px or more"):
        Camera.from_info(info(p=[0.8, 0, 0.5, 0, 0, 0.9, 0.5, 0, 0, 0, 1, 0]), rectified=True)


@pytest.mark.parametrize(("binning", "corner"), [((1, 1), (0, 0)), ((2, 2), (100, 40)), ((4, 2), (8, 20))])
def test_the_second_camera_of_a_stereo_pair_is_beside_its_frame(
    binning: tuple[int, int], corner: tuple[int, int]
) -> None:
    p = [450.0, 0, 310.0, -54.0, 0, 460.0, 230.0, 23.0, 0, 0, 1, 0]
    roi = SimpleNamespace(x_offset=corner[0], y_offset=corner[1], width=400, height=200)
    camera = Camera.from_info(info(p=p, roi=roi, binning_x=binning[0], binning_y=binning[1]), rectified=True)
    # Its own pixels of what P, 3x4, projects into the sensor's.
    point = np.array([0.3, -0.2, 2.5, 1.0])
    u, v, w = np.reshape(p, (3, 4)) @ point
    pixel = (u / w - corner[0]) / binning[0], (v / w - corner[1]) / binning[1]
    assert camera.centre == pytest.approx((0.12, -0.05, 0.0))
    seen = camera.matrix @ (point[:3] - camera.centre)
    assert seen[:2] / seen[2] == pytest.approx(pixel)
    # K and D are of one camera.
    assert Camera.from_info(info(p=p), rectified=False).centre == (0.0, 0.0, 0.0)


def test_a_camera_that_is_not_calibrated_is_refused() -> None:
    with pytest.raises(ImageError, match="must be calibrated"):
        Camera.from_info(info(k=[0.0] * 9, p=[0.0] * 12), rectified=True)
    with pytest.raises(ImageError, match="distortion model 'unheard_of' is not known"):
        Camera.from_info(info(distortion_model="unheard_of"), rectified=False)
    with pytest.raises(ImageError, match=r"of 6x0 px; its width and height must") as caught:
        Camera.from_info(info(binning_x=100, binning_y=1000), rectified=True)
    assert caught.value.reason == "bad_calibration"
    p = [450.0, 0, 310.0, math.inf, 0, 460.0, 230.0, 0, 0, 0, 1, 0]
    with pytest.raises(ImageError, match="has inf and 0 in its fourth column; they must be finite"):
        Camera.from_info(info(p=p), rectified=True)
    with pytest.raises(ImageError, match=r"distortion is 0\.1, nan; its coefficients must"):
        Camera.from_info(info(d=[0.1, math.nan]), rectified=False)


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


# Each a size of image, a focal length and a distortion; some polynomials turn back in the corners.
LENSES = {
    "wide": ((320, 240), 135.5, "plumb_bob", (-0.293, 0.062)),
    "wide, rational": ((320, 200), 142.0, "rational_polynomial", (2.3, 0.5, 0, 0, 0.02, 2.63, 1.1, 0.1)),
    "turns back": ((320, 240), 150.0, "plumb_bob", (-0.3, 0.09, 0.001, -0.002, -0.01)),
    "turns back late": ((320, 180), 145.0, "plumb_bob", (-0.25, 0.08, 0, 0, -0.012)),
    "thin prism": (
        (320, 240),
        150.0,
        "plumb_bob",
        (-0.2, 0.1, 2e-3, -1e-3, 0, 0, 0, 0, 2e-3, -1e-3, 3e-3, 0),
    ),
    "fisheye beyond 90 degrees": ((256, 256), 95.5, "equidistant", (0.0035, 0.0007, -0.002, 0.0002)),
}


@pytest.mark.parametrize("name", LENSES)
def test_each_ray_of_a_wide_lens_comes_back_to_its_pixel_and_the_others_are_none(name: str) -> None:
    (width, height), focal_px, model, coefficients = LENSES[name]
    camera = Camera(width, height, focal_px, focal_px, width / 2, height / 2, model, coefficients)
    x, y = camera.rays
    seen = np.isfinite(x) & np.isfinite(y)
    points = np.stack([x, y, np.ones_like(x)], axis=-1)[seen]
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    padded = np.array([*coefficients, *[0.0] * 12][: 4 if model == "equidistant" else 12])
    arguments = (np.zeros(3), np.zeros(3), camera.matrix, padded)
    found = project(points[:, None].astype(np.float64), *arguments)[0].reshape(-1, 2)
    expected = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)[seen]
    assert np.abs(found - expected).max() < 0.05
    row, column, inside = camera.pixels_of(*points.T)
    assert inside.all() and (column == expected[:, 0]).all() and (row == expected[:, 1]).all()
    # Of the image's corners those that see nothing are few, and none is elsewhere.
    radius = np.hypot(*np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2))
    assert seen.mean() > 0.9 and radius[seen].max() <= radius[~seen].min(initial=radius.max()) + 10


@pytest.mark.parametrize("name", [name for name in LENSES if "turns" in name])
def test_what_a_polynomial_turns_back_into_the_image_is_not_seen(name: str) -> None:
    (width, height), focal_px, model, coefficients = LENSES[name]
    camera = Camera(width, height, focal_px, focal_px, width / 2, height / 2, model, coefficients)
    # Along the diagonal, from what the corner's pixel looks at to far outside.
    radii = np.linspace(2.3, 40.0, 1000, dtype=np.float32)
    x, y = radii * np.float32(0.8), radii * np.float32(0.6)
    assert not camera.pixels_of(x, y, np.ones_like(x))[2].any()


def test_coefficients_that_are_not_known_are_refused_and_zeros_are_none() -> None:
    tilted = [0.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.01, 0.02]
    with pytest.raises(
        ImageError, match="has 14 coefficients, and the model 'rational_polynomial' is known up"
    ):
        Camera.from_info(info(distortion_model="rational_polynomial", d=tilted), rectified=False)
    with pytest.raises(ImageError, match="'equidistant' is known up to its 4th"):
        Camera.from_info(info(distortion_model="equidistant", d=[0.1, 0, 0, 0, 0.01]), rectified=False)
    Camera.from_info(
        info(distortion_model="rational_polynomial", d=[*tilted[:12], 0.0, 0.0]), rectified=False
    )
