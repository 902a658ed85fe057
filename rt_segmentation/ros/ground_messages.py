"""What is seen of the ground, as messages: a grid, a scan, and the scan's frame."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Header

from rt_segmentation.imaging.ground import BLOCKED, FREE, UNSEEN, GridSpec, GroundView


def package_missing(package: str, what: str) -> str:
    """A sentence where a package of messages is not installed; empty where it is."""
    try:
        importlib.import_module(f"{package}.msg")
    except ImportError:
        distro = os.environ.get("ROS_DISTRO", "DISTRO")
        name = package.replace("_", "-")
        return f"{what}, as {package} is not installed: sudo apt install ros-{distro}-{name}"
    return ""


def values_of(free: int, occupied: int, unknown: int) -> np.ndarray:
    """An OccupancyGrid's value of each kind of cell, int8 (3,)."""
    values = np.empty(3, np.int8)
    values[[FREE, BLOCKED, UNSEEN]] = free, occupied, unknown
    return values


def grid_message(
    view: GroundView, grid: GridSpec, height_m: float, values: np.ndarray, header: Header
) -> Any:
    """An OccupancyGrid, whose package must be installed.

    Args:
        view: of a mask.
        grid: its cells.
        height_m: of the ground in the header's frame [m].
        values: from `values_of`.
        header: the mask's stamp and the ground frame.
    """
    message = importlib.import_module("nav_msgs.msg").OccupancyGrid(header=header)
    info = message.info
    info.map_load_time, info.resolution = header.stamp, grid.resolution_m
    info.height, info.width = view.cells.shape
    info.origin.position.x, info.origin.position.y = grid.x_m[0], grid.y_m[0]
    info.origin.position.z, info.origin.orientation.w = height_m, 1.0
    # The one way that neither checks nor copies byte by byte in any distribution.
    message.data.frombytes(values.take(view.cells).tobytes())
    return message


def scan_message(view: GroundView, grid: GridSpec, header: Header) -> LaserScan:
    """A LaserScan of the free ranges; infinite and NaN as REP-117 has them.

    Args:
        view: of a mask.
        grid: whose range is the scan's.
        header: the mask's stamp and the frame at the point under the camera.
    """
    message = LaserScan(
        header=header,
        angle_min=view.angle_min,
        angle_max=view.angle_min + view.angle_increment * (len(view.ranges) - 1),
        angle_increment=view.angle_increment,
        range_min=0.0,
        range_max=grid.max_range_m,
    )
    message.ranges.frombytes(view.ranges.tobytes())
    return message


def foot_transform(view: GroundView, height_m: float, ground: Header, scan_frame: str) -> Any:
    """Where the scan's frame is in the ground frame, as a TFMessage, whose package must be installed.

    Args:
        view: of a mask.
        height_m: of the ground in the ground frame [m].
        ground: the mask's stamp and the ground frame.
        scan_frame: its name.
    """
    transform = TransformStamped(header=ground, child_frame_id=scan_frame)
    place = transform.transform.translation
    place.x, place.y, place.z = *view.foot, height_m
    return importlib.import_module("tf2_msgs.msg").TFMessage(transforms=[transform])
