"""Coordinate frames: chains, time, and what is said where there is no transform."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rt_segmentation.runtime.transforms import TransformBuffer, TransformError, rotation_matrix

HALF = math.sqrt(0.5)
LEFT = (0.0, 0.0, HALF, HALF)  # a quarter turn about z
LEVEL = (0.0, 0.0, 0.0, 1.0)
S = 1_000_000_000


def apply(
    buffer: TransformBuffer, target: str, source: str, stamp_ns: int, point: tuple[float, ...]
) -> list[float]:
    rotation, translation = buffer.lookup(target, source, stamp_ns)
    return [round(float(value), 9) for value in rotation @ np.array(point) + translation]


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    assert rotation_matrix(LEFT) @ [1, 0, 0] == pytest.approx([0, 1, 0], abs=1e-12)
    assert rotation_matrix((HALF * 3, 0, 0, HALF * 3)) @ [0, 1, 0] == pytest.approx([0, 0, 1], abs=1e-12)


def test_points_go_up_and_down_the_tree() -> None:
    buffer = TransformBuffer()
    assert not buffer.set("base", "lidar", 0, (1, 0, 2), LEFT, is_static=True)
    assert not buffer.set("/base", "/camera", 0, (0.5, 0, 1), LEVEL, is_static=True)
    # One metre ahead of the lidar is one metre to the left of it for the robot.
    assert apply(buffer, "base", "lidar", 7, (1, 0, 0)) == [1, 1, 2]
    assert apply(buffer, "camera", "lidar", 7, (1, 0, 0)) == [0.5, 1, 1]
    assert apply(buffer, "lidar", "camera", 7, (0.5, 1, 1)) == [1, 0, 0]
    assert apply(buffer, "lidar", "lidar", 7, (3, 4, 5)) == [3, 4, 5]


def test_between_two_poses_the_way_and_the_turn_are_even() -> None:
    buffer = TransformBuffer()
    buffer.set("odom", "base", 10 * S, (0, 0, 0), LEVEL, is_static=False)
    # The negative quaternion is the same turn.
    buffer.set("odom", "base", 11 * S, (4, 0, 0), tuple(-value for value in LEFT), is_static=False)
    turn = math.radians(22.5)
    expected = [1 + math.cos(turn), math.sin(turn), 0]
    assert apply(buffer, "odom", "base", 10 * S + S // 4, (1, 0, 0)) == pytest.approx(expected)


def test_history_is_bounded_and_a_drive_that_starts_again_is_heard() -> None:
    buffer = TransformBuffer(keep_s=2.0, tolerance_s=0.0)
    for second in range(8):
        buffer.set("odom", "base", second * S, (second, 0, 0), LEVEL, is_static=False)
    assert apply(buffer, "odom", "base", 5 * S, (0, 0, 0)) == [5, 0, 0]
    with pytest.raises(TransformError, match=r"is 1\.00 s newer than the sensor's message"):
        buffer.lookup("odom", "base", 4 * S)
    buffer.set("odom", "base", S, (9, 0, 0), LEVEL, is_static=False)
    assert apply(buffer, "odom", "base", S, (0, 0, 0)) == [9, 0, 0]


def test_a_little_late_is_near_enough_and_more_is_not() -> None:
    buffer = TransformBuffer(tolerance_s=0.1)
    buffer.set("odom", "base", 5 * S, (1, 0, 0), LEVEL, is_static=False)
    assert apply(buffer, "odom", "base", 5 * S + S // 20, (0, 0, 0)) == [1, 0, 0]
    assert apply(buffer, "odom", "base", 5 * S - S // 20, (0, 0, 0)) == [1, 0, 0]
    with pytest.raises(TransformError, match=r"newest transform of 'base' in 'odom' is 0\.50 s older"):
        buffer.lookup("odom", "base", 5 * S + S // 2)
    with pytest.raises(TransformError, match="tf is from the future"):
        buffer.lookup("odom", "base", 4 * S)


def test_what_is_missing_is_named() -> None:
    buffer = TransformBuffer()
    with pytest.raises(TransformError, match="no frame 'camera'; it has no frame at all"):
        buffer.lookup("camera", "lidar", 0)
    buffer.set("base", "camera", 0, (0, 0, 0), LEVEL, is_static=True)
    with pytest.raises(TransformError, match="no frame 'lidar'; it has 'base', 'camera'"):
        buffer.lookup("camera", "lidar", 0)
    with pytest.raises(TransformError, match=r"a message to be seen from 'camera' has no frame_id"):
        buffer.lookup("camera", "", 0)
    buffer.set("other", "lidar", 0, (0, 0, 0), LEVEL, is_static=True)
    with pytest.raises(
        TransformError, match="does not connect 'lidar' with 'camera': their roots are 'other' and"
    ):
        buffer.lookup("camera", "lidar", 0)
    buffer.set("camera", "base", 0, (0, 0, 0), LEVEL, is_static=True)
    with pytest.raises(TransformError, match="in a circle"):
        buffer.lookup("camera", "lidar", 0)


def test_transforms_that_are_none_are_not_taken() -> None:
    buffer = TransformBuffer()
    assert "no place" in buffer.set("a", "b", 0, (0, 0, 0), (0, 0, 0, 0), is_static=True)
    assert "no place" in buffer.set("a", "b", 0, (math.nan, 0, 0), LEVEL, is_static=True)
    assert "joins no two frames" in buffer.set("a", "/a", 0, (0, 0, 0), LEVEL, is_static=True)
    with pytest.raises(TransformError):
        buffer.lookup("a", "b", 0)


@pytest.mark.parametrize("back_s", [1, 8])
def test_after_a_clock_was_set_back_nothing_is_known_of_the_time_before(back_s: int) -> None:
    buffer = TransformBuffer()
    for tenth in range(81):
        # It drives at 1 m/s.
        buffer.set("odom", "base", tenth * S // 10, (tenth / 10, 0, 0), LEVEL, is_static=False)
        buffer.set("map", "odom", tenth * S // 10, (tenth / 10, 0, 0), LEVEL, is_static=False)
        buffer.set("base", "arm", tenth * S // 10, (0, 0, 0), LEVEL, is_static=False)
    buffer.set("base", "camera", 0, (0, 0, 1), LEVEL, is_static=True)
    began = (8 - back_s) * S
    for tenth in range(3):
        # It stands.
        buffer.set("odom", "base", began + tenth * S // 10, (0, 0, 0), LEVEL, is_static=False)
        buffer.set("base", "arm", began + tenth * S // 10, (0, 0, 0), LEVEL, is_static=False)
    assert apply(buffer, "odom", "camera", began + S // 20, (0, 0, 0)) == [0, 0, 1]
    for stamp_ns in (began + S * 4 // 5, began - S // 2):
        with pytest.raises(TransformError, match=r"(its publisher is late|too old)"):
            buffer.lookup("odom", "camera", stamp_ns)
    if back_s > 2:
        # Another simulation: where odom was in the map is not where it is.
        with pytest.raises(TransformError, match="'odom' in 'map' has had no transform since the clock"):
            buffer.lookup("map", "camera", began + S // 20)


def test_a_transform_that_was_overtaken_is_put_where_it_belongs() -> None:
    buffer = TransformBuffer()
    for tenth in (0, 2, 1):
        buffer.set("odom", "base", tenth * S // 10, (tenth, 0, 0), LEVEL, is_static=False)
    assert apply(buffer, "odom", "base", S // 20, (0, 0, 0)) == [0.5, 0, 0]
    assert apply(buffer, "odom", "base", S // 5, (0, 0, 0)) == [2, 0, 0]


def test_one_frame_of_two_publishers_costs_no_other_frame() -> None:
    buffer = TransformBuffer()
    for tenth in range(100):
        now = 100 * S + tenth * S // 10
        buffer.set("odom", "base", now, (tenth, 0, 0), LEVEL, is_static=False)
        buffer.set("base", "arm", now, (0, 0, 0), LEVEL, is_static=False)
        buffer.set("base", "arm", now - 50 * S, (0, 0, 0), LEVEL, is_static=False)
        assert apply(buffer, "odom", "base", now, (0, 0, 0)) == [tenth, 0, 0]
