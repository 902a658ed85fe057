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


def test_a_camera_that_is_not_calibrated_is_refused() -> None:
    with pytest.raises(ImageError, match="must be calibrated"):
        Camera.from_info(info(k=[0.0] * 9, p=[0.0] * 12), rectified=True)
    with pytest.raises(ImageError, match="distortion model 'unheard_of' is not known"):
        Camera.from_info(info(distortion_model="unheard_of"), rectified=False)
    with pytest.raises(ImageError, match=r"of 6x0 px; its width and height must") as caught:
        Camera.from_info(info(binning_x=100, binning_y=1000), rectified=True)
    assert caught.value.reason == "bad_calibration"
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
