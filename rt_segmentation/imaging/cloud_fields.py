"""The bytes of depth images and point clouds as arrays, and the layout of our own clouds.

It is PCL's ``PointXYZRGBL`` with a confidence in its padding; RViz, Nav2 and elevation_mapping read the
fields by their names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.codec import Buffer, view_samples
from rt_segmentation.imaging.errors import ImageError

Floats = npt.NDArray[np.float32]

INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64 = range(1, 9)
"""``sensor_msgs/PointField``'s datatypes."""

FIELDS: tuple[tuple[str, int, int], ...] = (
    ("x", 0, FLOAT32),
    ("y", 4, FLOAT32),
    ("z", 8, FLOAT32),
    ("rgb", 16, FLOAT32),
    ("label", 20, UINT32),
    ("confidence", 24, FLOAT32),
)
"""Name, offset [bytes] and datatype of each field; a field has one element."""

POINT_STEP = 32
"""Bytes of a point."""

DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")
"""Millimetres and metres (REP-118); mono16 is what some drivers call 16UC1."""

_COORDINATES = {FLOAT32: "f4", FLOAT64: "f8"}
_FINE_M = 131072.0
"""Beyond it 32 bits hold a coordinate to more than a centimetre."""


def view_depth(
    encoding: str, width: int, height: int, step: int, is_bigendian: bool, data: Buffer
) -> npt.NDArray[np.uint16] | Floats:
    """Views the fields of a depth ``sensor_msgs/Image``: uint16 (H, W) in mm, or float32 (H, W) in m.

    Raises:
        ImageError: ``unknown_encoding``, ``bad_size``, ``bad_step`` or ``truncated``.
    """
    if encoding not in DEPTH_ENCODINGS:
        raise ImageError(
            "unknown_encoding",
            f"The depth image's encoding is {encoding!r}; it must be 16UC1 (mm) or 32FC1 (m).",
        )
    size = 4 if encoding == "32FC1" else 2
    samples = view_samples(encoding, size, width, height, step, is_bigendian, data)
    if samples.dtype.byteorder == ">":
        samples = samples.byteswap().view(samples.dtype.newbyteorder("<"))
    return samples.view(np.float32) if size == 4 else samples


def view_points(
    fields: Iterable[Any],
    width: int,
    height: int,
    point_step: int,
    row_step: int,
    is_bigendian: bool,
    data: Buffer,
) -> Floats:
    """Reads the coordinates of a ``sensor_msgs/PointCloud2``: float32 (H, W, 3).

    It is a view of the message where x, y and z follow one another as this machine's floats.

    Args:
        fields: The message's PointFields; x, y and z must be among them, FLOAT32 or FLOAT64.
        width: Points in a row.
        height: Rows; 1 for an unorganised cloud.
        point_step: [bytes]
        row_step: [bytes]; may exceed the row's points.
        is_bigendian: The byte order.
        data: The bytes.

    Raises:
        ImageError: ``missing_field``, ``bad_step``, ``truncated`` or, of FLOAT64 in metres from far away,
            ``too_far``.
    """
    by_name = {field.name: field for field in fields}
    missing = [name for name in "xyz" if name not in by_name]
    if missing:
        raise ImageError(
            "missing_field",
            f"The cloud has no field {', '.join(missing)}; it has {', '.join(by_name) or 'none'}, "
            "and must have x, y and z.",
        )
    if point_step <= 0:
        raise ImageError("bad_step", f"The cloud's point_step is {point_step} bytes; it must be above 0.")
    # Of a single row it does not matter.
    row_step = row_step if row_step and height > 1 else width * point_step
    if row_step < width * point_step:
        raise ImageError(
            "bad_step",
            f"The cloud's row_step is {row_step} bytes; {width} points of {point_step} bytes need at least "
            f"{width * point_step}.",
        )
    available = data.nbytes if isinstance(data, np.ndarray) else memoryview(data).nbytes
    needed = (height - 1) * row_step + width * point_step if width and height else 0
    if available < needed:
        raise ImageError(
            "truncated",
            f"The cloud of {width}x{height} points of {point_step} bytes has {available} bytes of data; "
            f"it needs at least {needed}.",
        )
    coordinates = [by_name[name] for name in "xyz"]
    kinds = {field.datatype for field in coordinates}
    for name, field in zip("xyz", coordinates):
        if field.datatype not in _COORDINATES:
            raise ImageError(
                "missing_field",
                f"The cloud's field {name} has datatype {field.datatype}; it must be {FLOAT32} (FLOAT32) or "
                f"{FLOAT64} (FLOAT64).",
            )
        size = 8 if field.datatype == FLOAT64 else 4
        if field.offset + size > point_step:
            raise ImageError(
                "bad_step",
                f"The cloud's field {name} ends at byte {field.offset + size}; "
                f"a point has {point_step} bytes.",
            )
    shape = height, width, 3
    if not width or not height:
        return np.empty(shape, np.float32)
    order = ">" if is_bigendian else "<"
    start, size = coordinates[0].offset, 8 if FLOAT64 in kinds else 4
    if len(kinds) == 1 and [field.offset - start for field in coordinates] == [0, size, 2 * size]:
        dtype = np.dtype(order + _COORDINATES[coordinates[0].datatype])
        view: npt.NDArray[Any] = np.ndarray(shape, dtype, data, start, (row_step, point_step, size))
        native = view.dtype == np.float32 and view.flags.aligned
        points = view if native else view.astype(np.float32, order="C")
    else:
        points = np.empty(shape, np.float32)
        for axis, field in enumerate(coordinates):
            dtype = np.dtype(order + _COORDINATES[field.datatype])
            points[..., axis] = np.ndarray((height, width), dtype, data, field.offset, (row_step, point_step))
    if FLOAT64 in kinds:
        _check_near(points)
    return points


def _check_near(points: Floats) -> None:
    """Refuses points, float32, that were finer than that: of a map's frame, or of the earth's.

    Raises:
        ImageError: ``too_far``.
    """
    reach = np.abs(points[np.isfinite(points)]).max(initial=0.0)
    if reach > _FINE_M:
        raise ImageError(
            "too_far",
            f"The cloud has coordinates of {reach:.0f} m, which labelled points hold to "
            f"{np.spacing(reach):.2g} m; its frame must be within {_FINE_M:.0f} m of it, as its sensor's is.",
        )
