"""Labels in three dimensions: the points of a depth image, a camera or a lidar, each with its class."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud_fields import POINT_STEP
from rt_segmentation.imaging.errors import ImageError

Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

UNLABELLED = 255
"""The label of a point that no pixel saw."""

WORDS = POINT_STEP // 4

# The planes of so many pixels stay in a core's cache.
_BAND_PX = 1 << 15
_FARTHEST = float(np.finfo(np.float32).max)
_CONFIDENCES = (np.arange(256) / 255).astype(np.float32)


@dataclass(frozen=True)
class Selection:
    """Which points a cloud has.

    Attributes:
        min_range_m: Nearest distance from the sensor [m].
        max_range_m: Farthest distance from the sensor [m]; 0 is without a limit.
        keep: Class ids to keep; empty keeps all.
        drop: Class ids to leave out.
    """

    min_range_m: float = 0.0
    max_range_m: float = 0.0
    keep: frozenset[int] = frozenset()
    drop: frozenset[int] = frozenset()

    @property
    def by_range(self) -> bool:
        """Whether distances matter."""
        return self.min_range_m > 0 or self.max_range_m > 0

    @property
    def everything(self) -> bool:
        """Whether all points stay."""
        return self.classes is None and not self.by_range

    @property
    def limits_m(self) -> tuple[float, float]:
        """Nearest and farthest distance [m]."""
        return self.min_range_m, self.max_range_m or _FARTHEST

    @functools.cached_property
    def classes(self) -> Labels | None:
        """For each id 255 where its points stay and 0 where not, uint8 (256,); None where all stay."""
        if not self.keep and not self.drop:
            return None
        stays = np.full(256, 0 if self.keep else 255, np.uint8)
        stays[list(self.keep)] = 255
        stays[list(self.drop)] = 0
        return stays


def empty_cloud(height: int, width: int) -> Floats:
    """A cloud to write into, with the padding of its points at 0: float32 (height, width, 8)."""
    return np.zeros((height, width, WORDS), np.float32)


def cloud_of_depth(
    depth: npt.NDArray[np.uint16] | Floats,
    labels: Labels,
    camera: Camera,
    *,
    confidence: Labels | None = None,
    rgb: Labels | None = None,
    selection: Selection = Selection(),
    out: Floats | None = None,
) -> Floats:
    """The cloud of a depth image that is registered to the mask: one point a pixel, in the camera's frame.

    Points are where the whole of P (3x4) projects them into their pixels: in the frame of the camera_info,
    which for the second camera of a stereo pair is the first one's. depth_image_proc leaves P's fourth column
    out, which is the same for every camera but that one.

    A pixel without a depth, out of range or of a class left out has NaN coordinates and keeps its label.

    Args:
        depth: uint16 (H, W) in mm with 0 for none, or float32 (H, W) in m with 0, NaN or infinity for none:
            along the optical axis.
        labels: uint8 (H, W).
        camera: The calibration of both.
        confidence: uint8 (H, W), 255 for certain; without it the field is 1.
        rgb: uint8 (H, W, 3); without it the field is 0.
        selection: Which points.
        out: float32 (H, W, 8) from `empty_cloud`, written in place.

    Returns:
        float32 (H, W, 8), the bytes of FIELDS.

    Raises:
        ImageError: ``bad_size``: the sizes differ.
    """
    same_size("depth image", depth, labels)
    camera.check_mask(labels)
    height, width = labels.shape
    out = empty_cloud(height, width) if out is None else out
    ray_x, ray_y = camera.rays
    centre_x, centre_y, _ = camera.centre
    near, far = selection.limits_m
    nearest, farthest = np.float32(max(near, 1e-6)), np.float32(far)
    for band, planes in _bands(out):
        z: Any = depth[band]
        if z.dtype == np.uint16:
            z = z * np.float32(0.001)
        distance = z * camera.ray_lengths[band] if selection.by_range else z
        # Neither NaN nor what is 0 or less is in the range.
        with np.errstate(invalid="ignore"):
            seen: Any = ((distance >= nearest) & (distance <= farthest)).view(np.uint8)
        if selection.classes is not None:
            seen &= cv2.LUT(labels[band], selection.classes)
        if camera.seeing is not None:
            seen &= camera.seeing[band]
        planes.z.fill(np.nan)
        cv2.copyTo(np.ascontiguousarray(z), seen, planes.z)
        np.multiply(planes.z, ray_x[band], out=planes.x)
        np.multiply(planes.z, ray_y[band], out=planes.y)
        if centre_x or centre_y:
            planes.x += np.float32(centre_x)
            planes.y += np.float32(centre_y)
        planes.paint(band, labels, confidence, rgb)
        planes.write(out[band])
    return out


def cloud_of_camera_points(
    points: Floats,
    labels: Labels,
    *,
    confidence: Labels | None = None,
    rgb: Labels | None = None,
    selection: Selection = Selection(),
    out: Floats | None = None,
) -> Floats:
    """Adds labels to an organised cloud that has one point for each pixel of the mask.

    Args:
        points: float32 (H, W, 3), in any frame; NaN for none.
        labels: uint8 (H, W).
        confidence: As for `cloud_of_depth`, as are the rest and what is returned.
        rgb: uint8 (H, W, 3)
        selection: Which points; distances are from the origin of their frame.
        out: float32 (H, W, 8)

    Raises:
        ImageError: ``bad_size``: the sizes differ.
    """
    same_size("cloud", points, labels)
    height, width = labels.shape
    out = empty_cloud(height, width) if out is None else out
    for band, planes in _bands(out):
        xyz: Any = points[band]
        if not selection.everything:
            # OpenCV is slow with points that have other fields between them.
            xyz = np.ascontiguousarray(xyz)
            seen = _selected(xyz, labels[band], selection)
            xyz = cv2.copyTo(xyz, seen, np.full(xyz.shape, np.nan, np.float32))
        cv2.transpose(xyz.reshape(-1, 3), planes.xyz)
        planes.paint(band, labels, confidence, rgb)
        planes.write(out[band])
    return out


def cloud_of_points(
    points: Floats,
    labels: Labels,
    camera: Camera,
    rotation: npt.NDArray[np.float64],
    translation: npt.NDArray[np.float64],
    *,
    confidence: Labels | None = None,
    rgb: Labels | None = None,
    selection: Selection = Selection(),
    nearest_wins: bool = False,
) -> Floats:
    """Labels the points of any sensor by projecting them into the mask.

    A point outside the image or behind the camera, and one with NaN coordinates, has the label 255,
    confidence 0 and rgb 0. A lens's distortion is not applied: the mask should be rectified, or the
    distortion small.

    Args:
        points: float32 (H, W, 3), in the sensor's frame.
        labels: uint8 (H, W) of the mask.
        camera: The mask's calibration.
        rotation: From the sensor's frame to the camera's optical frame (z forward, x right), (3, 3).
        translation: Likewise, (3,) [m].
        confidence: As for `cloud_of_depth`.
        rgb: uint8 (H, W, 3) of the mask's size.
        selection: Which points; distances are from the sensor.
        nearest_wins: Whether of several points in one pixel the nearest to the camera alone is labelled.

    Returns:
        float32 (H, W, 8) of the points' own rows and columns, or (1, N, 8) where the selection leaves points
        out: they are gone, and so are NaN points.

    Raises:
        ImageError: ``bad_size``: the camera_info is not of the mask's size.
    """
    camera.check_mask(labels)
    points = np.ascontiguousarray(points)
    flat = points.reshape(-1, 1, 3)
    if not len(flat):
        return empty_cloud(1, 0)
    place, pixel, depth = _pixels(flat, camera, rotation, translation)
    if nearest_wins:
        front = _nearest(pixel, depth, labels.size)
        place, pixel = place[front], pixel[front]
    ids = np.full(len(flat), UNLABELLED, np.uint8)
    ids[place] = labels.reshape(-1)[pixel]
    planes = _Planes(1, len(flat))
    planes.confidence[0, place] = 1 if confidence is None else _CONFIDENCES[confidence.reshape(-1)[pixel]]
    if rgb is not None and len(pixel):
        planes.colour[0, place] = packed(rgb.reshape(-1, 3).take(pixel, axis=0)[None])[0]
    planes.ids[...] = ids
    cv2.transpose(flat[:, 0], planes.xyz)
    rows = points.shape[:2]
    if not selection.everything:
        planes = planes.take(np.flatnonzero(_selected(points, ids.reshape(rows), selection)))
        rows = planes.ids.shape
    out = empty_cloud(*rows)
    planes.write(out)
    return out


def without_gaps(cloud: Floats) -> Floats:
    """The points of a cloud that have coordinates: (H, W, 8) to (1, N, 8)."""
    flat = cloud.reshape(-1, WORDS)
    return np.ascontiguousarray(flat[np.isfinite(flat[:, :3]).all(axis=1)])[None]


def packed(rgb: Labels, out: Labels | None = None) -> Floats:
    """Colours (H, W, 3) as PCL has them, float32 (H, W): the bits of 0x00RRGGBB.

    With 255 for the first byte, as an alpha, a float would be NaN.

    Args:
        rgb: uint8 (H, W, 3)
        out: uint8 (H, W, 4), whose memory is used.
    """
    bgra = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA, out)
    words = bgra.view(np.uint32)
    words &= 0x00FFFFFF
    return bgra.view(np.float32)[..., 0]


def same_size(what: str, image: npt.NDArray[Any], labels: Labels) -> None:
    """Refuses an image, named by `what`, whose rows and columns are not the mask's.

    Raises:
        ImageError: ``bad_size``.
    """
    if image.shape[:2] != labels.shape:
        raise ImageError(
            "bad_size",
            f"The {what} is {image.shape[1]}x{image.shape[0]} and the mask "
            f"{labels.shape[1]}x{labels.shape[0]} px; both must be of one size and registered to each other.",
        )


def check_registered(depth_frame: str, mask_frame: str) -> None:
    """Refuses a depth image that is in another frame than its mask; one without a frame cannot be told.

    Raises:
        ImageError: ``unregistered``.
    """
    # Old drivers put a slash before a frame's name, and tf takes it off.
    if depth_frame and mask_frame and depth_frame.lstrip("/") != mask_frame.lstrip("/"):
        raise ImageError(
            "unregistered",
            f"The depth image is in frame '{depth_frame}' and the mask in '{mask_frame}'; depth must be "
            "registered to the camera whose images are segmented.",
        )


def _selected(points: Floats, labels: Labels, selection: Selection) -> Labels:
    """255 where a point stays and 0 where not, uint8 (H, W)."""
    near, far = selection.limits_m
    # cv2.transform adds a point's three squares faster than NumPy; NaN is in no range.
    squares = cv2.transform(points * points, np.ones((1, 3), np.float32))
    seen: Any = cv2.inRange(squares, near * near, min(far * far, _FARTHEST))
    if selection.classes is not None:
        seen &= cv2.LUT(labels, selection.classes)
    return np.asarray(seen)


def _pixels(
    flat: Floats, camera: Camera, rotation: npt.NDArray[np.float64], translation: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """The points (N, 1, 3) that fall into the image: their places, their pixels' places, their depths [m]."""
    projection = camera.matrix @ np.column_stack([rotation, translation - np.array(camera.centre)])
    planes: Any = cv2.split(cv2.transform(flat, projection.astype(np.float32)))
    u, v, depth = (plane.reshape(-1) for plane in planes)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u, v = u / depth, v / depth
        # NaN is in no interval.
        inside = (depth > 0) & (u > -0.5) & (u < camera.width - 0.5)
        inside &= (v > -0.5) & (v < camera.height - 0.5)
    place = np.flatnonzero(inside)
    column, row = np.rint(u[place]).astype(np.intp), np.rint(v[place]).astype(np.intp)
    return place, row * camera.width + column, depth[place]


def _nearest(pixel: npt.NDArray[np.intp], depth: Floats, pixels: int) -> npt.NDArray[np.bool_]:
    """Which points are the nearest of their pixel: bool (N,)."""
    front = np.full(pixels, np.inf, np.float32)
    rest = np.arange(len(pixel))
    # Of those that compete for a pixel the last one written holds it; nearer ones try again.
    while len(rest):
        front[pixel[rest]] = depth[rest]
        rest = rest[depth[rest] < front[pixel[rest]]]
    return np.asarray(depth <= front[pixel])


class _Planes:
    """The fields of points, one by one, before they are written next to each other.

    Attributes:
        x: [m], float32 (rows, width), as are all but `xyz` and `ids`.
        y: [m]
        z: [m]
        xyz: All three, float32 (3, rows * width).
        colour: As from `packed`.
        ids: uint32 (rows, width)
        confidence: 0 to 1.
    """

    def __init__(self, rows: int, width: int, words: Floats | None = None) -> None:
        self._words = np.zeros((WORDS, rows * width), np.float32) if words is None else words
        self.xyz = self._words[:3]
        planes = [plane.reshape(rows, width) for plane in self._words]
        self.x, self.y, self.z, _, self.colour, label, self.confidence, _ = planes
        # Bits are moved, not numbers: an id is four bytes of an unsigned integer.
        self.ids = label.view(np.uint32)

    def take(self, places: npt.NDArray[np.intp]) -> _Planes:
        """Some of the points, in one row."""
        return _Planes(1, len(places), self._words.take(places, axis=1))

    def paint(self, band: slice, labels: Labels, confidence: Labels | None, rgb: Labels | None) -> None:
        """Sets the fields of a band of a mask's rows; what is not given is 1 and 0."""
        self.ids[...] = labels[band]
        if confidence is None:
            self.confidence.fill(1)
        else:
            cv2.LUT(confidence[band], _CONFIDENCES, self.confidence)
        if rgb is not None:
            packed(rgb[band], self.colour.view(np.uint8).reshape(*self.colour.shape, 4))

    def write(self, out: Floats) -> None:
        """Writes the points, float32 (H, W, 8) of as many; OpenCV transposes faster than it merges."""
        if out.size:
            cv2.transpose(self._words, out.reshape(-1, WORDS))


def _bands(cloud: Floats) -> Iterator[tuple[slice, _Planes]]:
    """Bands of a cloud's rows, each with planes; they share the memory, which stays in a core's cache."""
    height, width = cloud.shape[:2]
    rows = max(1, _BAND_PX // max(width, 1))
    planes = _Planes(min(rows, height), width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        if bottom - top < len(planes.x):
            planes = _Planes(bottom - top, width)
        yield slice(top, bottom), planes
