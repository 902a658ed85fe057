"""The ground grid node's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rt_segmentation.groups import Groups, GroupsError, load_groups
from rt_segmentation.imaging.ground import GridSpec
from rt_segmentation.ros.cloud_parameters import FROM_TF, pose_complaint
from rt_segmentation.ros.cloud_parameters import PARAMETERS as CLOUD
from rt_segmentation.ros.parameters import Parameter, ParameterError

MAX_CELLS = 4_000_000
_SHARED = {p.name: p for p in CLOUD if p.name in ("rectified", "tf_tolerance_s", "diagnostics.stale_after_s")}


def _value(name: str, default: int, text: str) -> Parameter:
    return Parameter(name, default, text, minimum=-128, maximum=127, read_only=True)


def _edge(name: str, default: float, text: str) -> Parameter:
    return Parameter(name, default, text, "m", minimum=-1000.0, maximum=1000.0, read_only=True)


PARAMETERS = (
    Parameter(
        "ground_frame",
        "base_link",
        "The frame in which the ground is a plane: x ahead, z up, as base_link or base_footprint; the grid is"
        " in it.",
        read_only=True,
        check=lambda name: None if name.strip("/ ") else "give the name of a frame",
    ),
    Parameter(
        "ground_height_m",
        0.0,
        "z of the ground in ground_frame; below 0 where base_link is above the ground.",
        "m",
        minimum=-100.0,
        maximum=100.0,
        read_only=True,
    ),
    Parameter(
        "camera_in_ground",
        FROM_TF,
        "How the camera's optical frame lies in ground_frame: x, y, z in m and a quaternion x, y, z, w; [0.0]"
        " takes it from /tf.",
        read_only=True,
        check=pose_complaint,
    ),
    _SHARED["tf_tolerance_s"],
    _SHARED["rectified"],
    Parameter(
        "ground_classes",
        ["traversable"],
        "What is ground: names of groups of `ground_groups`, names of the mask's own classes, or ids.",
        read_only=True,
        numbers=True,
        check=lambda names: None if names else "name a group or a class at least",
    ),
    Parameter(
        "ground_groups",
        "driving",
        "Groups of classes by which ground_classes may go: categories, driving, or the path of a YAML file.",
        read_only=True,
    ),
    Parameter(
        "label_set",
        "",
        "Label set of the mask, or the path of its YAML file, camvid11/driving where it has these groups;"
        " empty takes the names from label_info.",
        read_only=True,
    ),
    _edge("x_min_m", 0.0, "Where the grid begins, in ground_frame."),
    _edge("x_max_m", 20.0, "Where the grid ends."),
    _edge("y_min_m", -10.0, "The grid's right edge, in ground_frame."),
    _edge("y_max_m", 10.0, "The grid's left edge."),
    Parameter("resolution_m", 0.1, "Side of a cell.", "m", minimum=0.01, maximum=10.0, read_only=True),
    Parameter(
        "ground_range_m",
        20.0,
        "What is farther from the point under the camera is not looked at, in the grid and in the scan.",
        "m",
        minimum=0.1,
        maximum=1000.0,
        read_only=True,
    ),
    Parameter(
        "beams",
        0,
        "Directions of the scan; 0 is one a column of the mask.",
        minimum=0,
        maximum=10000,
        read_only=True,
    ),
    Parameter(
        "scan_frame",
        "",
        "Frame of the scan, at the point under the camera, which the node publishes on /tf; empty is the"
        " mask's frame with _ground after it.",
        read_only=True,
    ),
    _value("free_value", 0, "Value of a cell that is ground."),
    _value("occupied_value", 100, "Value of a cell that is not."),
    _value("unknown_value", -1, "Value of a cell of which nothing is known."),
    _SHARED["diagnostics.stale_after_s"],
)


def grid_of(settings: Mapping[str, Any]) -> GridSpec:
    """The grid that the parameters describe.

    Raises:
        ParameterError: it has no cells, or too many.
    """
    for axis in "xy":
        low, high = settings[f"{axis}_min_m"], settings[f"{axis}_max_m"]
        if high <= low:
            raise ParameterError(
                f"parameter '{axis}_max_m' is {high:g}, it must be above {axis}_min_m, which is {low:g}"
            )
    grid = GridSpec(
        (settings["x_min_m"], settings["x_max_m"]),
        (settings["y_min_m"], settings["y_max_m"]),
        settings["resolution_m"],
        settings["ground_range_m"],
    )
    columns, rows = grid.size
    if columns * rows > MAX_CELLS:
        raise ParameterError(
            f"parameter 'resolution_m' is {grid.resolution_m:g}, which makes {columns}x{rows} cells; there "
            f"may be {MAX_CELLS}: take larger cells or a smaller grid"
        )
    return grid


def groups_of(settings: Mapping[str, Any]) -> Groups | None:
    """The groups by which ground_classes may go.

    Raises:
        ParameterError: there are none of that name.
    """
    if not settings["ground_groups"]:
        return None
    try:
        return load_groups(settings["ground_groups"])
    except GroupsError as error:
        raise ParameterError(f"parameter 'ground_groups': {error}") from error
