"""The bytes of depth images and point clouds as arrays."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rt_segmentation.imaging.cloud import Selection, cloud_of_camera_points
from rt_segmentation.imaging.cloud_fields import FIELDS, POINT_STEP, view_depth, view_points
from rt_segmentation.imaging.errors import ImageError

HEIGHT, WIDTH = 37, 53


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


@pytest.mark.parametrize("padding", [0, 8])
def test_a_camera_s_cloud_is_read_where_it_lies(padding: int) -> None:
    rng = np.random.default_rng(1)
    data = np.zeros((HEIGHT, 32 * WIDTH + padding), np.uint8)
    points: np.ndarray = np.ndarray((HEIGHT, WIDTH, 8), np.float32, data, 0, (data.shape[1], 32, 4))
    points[..., 1:4] = rng.normal(0, 5, (HEIGHT, WIDTH, 3))
    view = view_points(fields(x=4, y=8, z=12), WIDTH, HEIGHT, 32, data.shape[1], False, data.reshape(-1))
    assert np.shares_memory(view, data)
    labels = rng.integers(0, 9, (HEIGHT, WIDTH)).astype(np.uint8)
    for selection in (Selection(), Selection(1.0, 6.0, drop=frozenset({3}))):
        cloud, same = (
            cloud_of_camera_points(read, labels, selection=selection) for read in (view, view.copy())
        )
        assert cloud.tobytes() == same.tobytes()


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
        ({"point_step": 0}, "point_step is 0 bytes; it must be above 0"),
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


def test_a_row_step_of_a_single_row_does_not_matter() -> None:
    points = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    view = view_points(fields(x=0, y=4, z=8), 4, 1, 12, 1, False, points.tobytes())
    assert np.array_equal(view, points)


def test_finer_points_from_far_away_are_refused() -> None:
    """A map's coordinates lose a quarter of a metre in 32 bits, and their labels with it."""
    wide = [SimpleNamespace(name=name, offset=8 * place, datatype=8) for place, name in enumerate("xyz")]
    points = np.array([[[5.0e5, 4.0e6, np.nan], [1.0, np.inf, 3.0]]])
    with pytest.raises(ImageError, match=r"coordinates of 4000000 m, which .* hold to 0\.25 m"):
        view_points(wide, 2, 1, 24, 0, False, points.tobytes())
    near = points / 100
    assert np.array_equal(
        view_points(wide, 2, 1, 24, 0, False, near.tobytes()), near.astype(np.float32), equal_nan=True
    )
