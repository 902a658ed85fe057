"""Regions of label images as polygons and run lengths, and back.

A region is a set of pixels of one value that touch each other by their sides. Two kinds of polygons describe
it: COCO's and CVAT's follow the edges of pixels, and the corners of an image are (0, 0) and (width, height);
those of Cityscapes go through the centres of its outermost pixels, which are drawn as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from rt_segmentation.errors import MissingPackageError
from rt_segmentation.labels import IGNORE_ID


@dataclass(frozen=True)
class Region:
    """A connected region, with 4 neighbours a pixel.

    Attributes:
        value: of its pixels.
        left: of its bounding box [px].
        top: [px]
        mask: its pixels within the bounding box, bool (h, w).
        filled: the same with all that it encloses, bool (h, w).
        depth: how many regions enclose it.
        encloses_unlabelled: there are pixels of 255 in what it encloses.
    """

    value: int
    left: int
    top: int
    mask: np.ndarray
    filled: np.ndarray
    depth: int
    encloses_unlabelled: bool

    @property
    def has_holes(self) -> bool:
        """Whether it encloses other regions, also where its own pixels touch by corners alone."""
        return not np.array_equal(self.mask, self.filled)

    def outline(self, tolerance_px: float = 0.0) -> np.ndarray:
        """Its outer edge along the edges of pixels, float64 (N, 2) of (x, y) in the image, N >= 3.

        Args:
            tolerance_px: how far the polygon may be from the edge [px]; 0 is exact.
        """
        corners = trace(self.mask)
        if tolerance_px > 0:
            points = corners[:, None].astype(np.float32)
            simpler = np.asarray(cv2.approxPolyDP(points, tolerance_px, True))[:, 0]
            corners = simpler if len(simpler) > 2 else corners
        return np.asarray(corners + np.array([self.left, self.top]), np.float64)

    def contour(self) -> np.ndarray:
        """The centres of its outermost pixels, int (N, 2) of (x, y) in the image, N >= 3."""
        (found,) = _contours(self.mask)
        points = np.asarray(found)[:, 0]
        while len(points) < 3:
            points = np.concatenate([points, points[:1]])
        return np.asarray(points + np.array([self.left, self.top]))


def regions(labels: np.ndarray) -> list[Region]:
    """All regions of a label image, 255 included, in the order in which to draw them filled.

    Drawn in this order, each with all that it encloses, they give the label image again: what lies within
    another region comes after it.

    Args:
        labels: uint8 (H, W).
    """
    found = []
    for value in np.unique(labels).tolist():
        # OpenCV 4.5.5's own choice of the algorithm writes past its memory.
        count, numbers, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
            np.asarray(labels == value, np.uint8), 4, cv2.CV_32S, cv2.CCL_WU
        )
        for number in range(1, count):
            left, top, width, height = stats[number, :4].tolist()
            mask = numbers[top : top + height, left : left + width] == number
            filled = np.zeros(mask.shape, np.uint8)
            cv2.drawContours(filled, _contours(mask), -1, 1, cv2.FILLED)
            found.append((value, left, top, mask, filled.astype(bool)))
    found.sort(key=lambda region: -np.count_nonzero(region[4]))
    covered = np.zeros(labels.shape, np.int32)
    result = []
    for value, left, top, mask, filled in found:
        box = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
        depth = int(covered[box][mask][0])
        covered[box][filled] += 1
        unlabelled = bool((labels[box][filled & ~mask] == IGNORE_ID).any())
        result.append(Region(value, left, top, mask, filled, depth, unlabelled))
    return result


def _contours(mask: np.ndarray) -> Sequence[Any]:
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cast("Sequence[Any]", found[0])


def trace(mask: np.ndarray) -> np.ndarray:
    """The outer edge of a region that is connected by sides: corners, int (N, 2) of (x, y), clockwise.

    Args:
        mask: bool (h, w), not empty.
    """
    padded = np.pad(mask, 1)
    # Pixels lie to the right of an edge. By direction (dx, dy): the pixel right of an edge, and the one left,
    # relative to the corner where the edge starts, in the padded mask.
    sides = {
        (1, 0): ((1, 1), (0, 1)), (0, 1): ((1, 0), (1, 1)),
        (-1, 0): ((0, 0), (1, 0)), (0, -1): ((0, 1), (0, 0)),
    }  # fmt: skip
    rows = padded.tolist()
    x, y = int(np.argmax(mask[0])), 0
    start, direction = (x, y), (1, 0)
    corners = [start]
    while True:
        x, y = x + direction[0], y + direction[1]
        # Right first: it stays with the same pixel where two pixels touch by corners.
        dx, dy = direction
        for turn in ((-dy, dx), (dx, dy), (dy, -dx)):
            inside, outside = sides[turn]
            if rows[y + inside[0]][x + inside[1]] and not rows[y + outside[0]][x + outside[1]]:
                break
        if (x, y) == start and turn == (1, 0):
            return np.array(corners)
        if turn != direction:
            corners.append((x, y))
        direction = turn


def run_lengths(flat: np.ndarray) -> list[int]:
    """Lengths of alternating runs of a flat mask, the first of zeros, which may be of length 0."""
    changes = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *counts] if flat.size and flat[0] else list(counts)


def from_run_lengths(counts: Sequence[int], size: int) -> np.ndarray:
    """The flat mask, bool (size,), of runs that begin with zeros.

    Raises:
        ValueError: they are not whole numbers from 0 on whose sum is `size`.
    """
    if not all(isinstance(count, int) and 0 <= count <= size for count in counts) or sum(counts) != size:
        raise ValueError(f"its run lengths are not whole numbers with the sum {size}")
    values = np.arange(len(counts)) % 2 == 1
    return np.asarray(np.repeat(values, counts))


def polygon_mask(polygons: Sequence[Any], width: int, height: int) -> np.ndarray:
    """Draw polygons along the edges of pixels as COCO and CVAT do; their union, bool (height, width).

    Args:
        polygons: flat lists of numbers, x before y.
        width: of the image [px].
        height: [px]

    Raises:
        MissingPackageError: pycocotools is not installed.
        ValueError: a polygon is not 3 points or more.
    """
    checked = []
    for polygon in polygons:
        try:
            numbers = np.asarray(polygon, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError("its polygon is not a list of numbers") from error
        if numbers.ndim != 1 or len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
            raise ValueError("its polygon is not a list of 3 points (x, y) or more")
        # Far outside there is nothing to draw, and pycocotools walks along every pixel of an edge.
        near = clip_polygon(numbers.reshape(-1, 2), 4 * max(width, height))
        if len(near) >= 3:
            checked.append(near.ravel().tolist())
    if not checked:
        return np.zeros((height, width), bool)
    mask = coco_mask()
    return np.asarray(mask.decode(mask.merge(mask.frPyObjects(checked, height, width)))).astype(bool)


def clip_polygon(points: np.ndarray, limit: float) -> np.ndarray:
    """What of a polygon lies in the square from -`limit` to `limit`, float64 (n, 2).

    Its edges keep their slopes; what lies outside becomes edges along the square's, and n may be 0. After
    Sutherland and Hodgman, "Reentrant Polygon Clipping", 1974.

    Args:
        points: (n, 2), x before y.
        limit: of both coordinates.
    """
    points = np.asarray(points, np.float64)
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        depth = limit - sign * points[:, axis]
        if (depth >= 0).all():
            continue
        kept = []
        for point, inside, before, inside_before in zip(
            points, depth, np.roll(points, 1, axis=0), np.roll(depth, 1)
        ):
            if (inside >= 0) != (inside_before >= 0):
                crossing = before + (point - before) * (inside_before / (inside_before - inside))
                crossing[axis] = sign * limit
                kept.append(crossing)
            if inside >= 0:
                kept.append(point)
        points = np.array(kept).reshape(-1, 2)
    return points


def coco_mask() -> Any:
    """The module `pycocotools.mask`.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingPackageError(
            f"polygons and COCO's masks are read by pycocotools, which cannot be used: {error};"
            " pip install pycocotools"
        ) from error
    return mask
