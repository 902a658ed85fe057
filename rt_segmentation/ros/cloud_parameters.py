"""The semantic cloud node's parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rt_segmentation.groups import GroupsError, is_id, load_names
from rt_segmentation.labels import IGNORE_ID, LabelSet, LabelSetError
from rt_segmentation.ros.parameters import Parameter, ParameterError
from rt_segmentation.ros.segmentation_parameters import PARAMETERS as SEGMENTATION

FROM_TF = [0.0]
DEPTH, POINTS = "depth", "points"


def pose_complaint(value: Sequence[float]) -> str | None:
    """What is wrong with a pose, x, y, z and a quaternion, in a few words; None for nothing."""
    if [*value] == FROM_TF:
        return None
    if len(value) != 7:
        return "give x, y, z [m] and a quaternion x, y, z, w, or [0.0] to take it from /tf"
    # As of a transform on /tf.
    return None if math.hypot(*value[3:]) >= 1e-6 else "its quaternion is all zero"


def named_classes(label_set: str) -> LabelSet | None:
    """What parameter label_set names; None for ''.

    Raises:
        ParameterError: there is none of that name.
    """
    if not label_set:
        return None
    try:
        return load_names(label_set)
    except (LabelSetError, GroupsError) as error:
        raise ParameterError(f"parameter 'label_set': {error}") from error


def range_limits(settings: Mapping[str, Any]) -> tuple[float, float]:
    """Between which distances from their sensor points stay [m]; 0 as the farther one is without a limit.

    Raises:
        ParameterError: no point could.
    """
    near, far = settings["min_range_m"], settings["max_range_m"]
    if 0 < far <= near:
        raise ParameterError(
            f"parameter 'max_range_m' is {far:g}, it must be 0 or above min_range_m, which is {near:g}"
        )
    return near, far


def class_ids(
    entries: Sequence[str], classes: Mapping[int, str] | None, has: str, parameter: str
) -> frozenset[int]:
    """The ids of classes given by id or by name; in capitals or not.

    Args:
        entries: the parameter's.
        classes: names by id; None where they are not known yet, and names are left out.
        has: what a sentence says about the names.
        parameter: its name.

    Raises:
        ParameterError: an entry is no id and no class's name.
    """
    ids: set[int] = set()
    for entry in entries:
        if is_id(entry):
            found = {int(entry)} if int(entry) <= IGNORE_ID else set()
        elif classes is None:
            continue
        else:
            found = {number for number, name in classes.items() if name.casefold() == entry.casefold()}
        if not found:
            raise ParameterError(
                f"parameter '{parameter}' holds '{entry}', it must be an id from 0 to {IGNORE_ID} "
                f"or a class's name; {has}"
            )
        ids |= found
    return frozenset(ids)


PARAMETERS = (
    Parameter(
        "geometry",
        DEPTH,
        "Where the points come from: a depth image that is registered to the camera, or a point cloud.",
        choices=(DEPTH, POINTS),
        read_only=True,
    ),
    Parameter(
        "sync_tolerance_s",
        0.02,
        "The largest difference between the stamps of a mask and its depth image or cloud; 0 is exact.",
        "s",
        minimum=0.0,
        maximum=10.0,
        read_only=True,
    ),
    Parameter(
        "use_confidence",
        True,
        "Whether points have the mask's confidence, if somebody publishes it; it is 1 otherwise.",
        read_only=True,
    ),
    Parameter(
        "use_color",
        True,
        "Whether points have the colour that is on `color`, if somebody publishes it; it is black otherwise.",
        read_only=True,
    ),
    Parameter(
        "rectified",
        True,
        "Whether mask and depth image are rectified, so that P of camera_info holds; false takes K and D.",
        read_only=True,
    ),
    Parameter(
        "min_range_m",
        0.0,
        "Points nearer to their sensor are left out.",
        "m",
        minimum=0.0,
        maximum=100_000.0,
        read_only=True,
    ),
    Parameter(
        "max_range_m",
        0.0,
        "Points farther from their sensor are left out; 0 is without a limit.",
        "m",
        minimum=0.0,
        maximum=100_000.0,
        read_only=True,
    ),
    Parameter(
        "label_set",
        "",
        "Label set of the mask, or the path of its YAML file, camvid11/driving where it has these groups;"
        " empty takes the names for keep_classes and drop_classes from label_info.",
        read_only=True,
    ),
    Parameter(
        "keep_classes",
        [""],
        "Classes to keep, by id or name; empty keeps all.",
        read_only=True,
        numbers=True,
    ),
    Parameter("drop_classes", [""], "Classes to leave out, by id or name.", read_only=True, numbers=True),
    Parameter(
        "voxel_size_m",
        0.0,
        "Side of the voxels of which each becomes one point; 0 is without.",
        "m",
        minimum=0.0,
        maximum=100.0,
        read_only=True,
    ),
    Parameter(
        "nearest_wins",
        False,
        "Whether of several points of a cloud that fall into one pixel the nearest alone gets its label.",
        read_only=True,
    ),
    Parameter(
        "sensor_to_camera",
        FROM_TF,
        "How a cloud's sensor lies in the camera's optical frame: x, y, z in m and a quaternion x, y, z, w;"
        " [0.0] takes it from /tf.",
        read_only=True,
        check=pose_complaint,
    ),
    Parameter(
        "tf_tolerance_s",
        0.1,
        "How much newer or older than a moving frame's transforms a cloud may be.",
        "s",
        minimum=0.0,
        maximum=10.0,
        read_only=True,
    ),
    next(p for p in SEGMENTATION if p.name == "diagnostics.stale_after_s"),
)
