"""Where a mask's ground is on the plane under the camera: a grid of cells, and how far each way is free.

Everything is taken to lie on the plane. What stands on it is seen where it hides the ground: its foot is
right, and what is behind the foot is not known.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError

Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

UNSEEN, FREE, BLOCKED = 0, 1, 2
"""What a pixel, or a cell, is: not labelled or not in the image, ground, anything else."""

MIN_HEIGHT_M = 0.02
_UNLABELLED = 255
_MAX_STEPS = 2048
# So many samples along a beam find how the image's rows lie on it.
_TRIAL = 64


@dataclass(frozen=True)
class GridSpec:
    """The cells of a grid in the ground frame: x ahead, y to the left.

    Attributes:
        x_m: Where its first column of cells begins and its last one ends [m].
        y_m: Likewise, of its rows.
        resolution_m: A cell's side.
        max_range_m: What is farther from the camera's foot is not looked at.
    """

    x_m: tuple[float, float]
    y_m: tuple[float, float]
    resolution_m: float
    max_range_m: float

    @property
    def size(self) -> tuple[int, int]:
        """Cells along x and along y."""
        (x0, x1), (y0, y1) = self.x_m, self.y_m
        side = self.resolution_m
        return max(1, round((x1 - x0) / side)), max(1, round((y1 - y0) / side))


@dataclass(frozen=True, eq=False)
class GroundView:
    """What is seen of the ground in one mask.

    Attributes:
        cells: UNSEEN, FREE or BLOCKED, uint8 (cells along y, along x), as an OccupancyGrid has them.
        angle_min: The first beam's angle about the camera's foot, from the ground frame's x to its y [rad].
        angle_increment: From a beam to the next [rad].
        ranges: How far each beam goes over ground [m], float32 (beams,): to what is not ground, or to where
            nothing is seen any more; infinite where it is ground as far as the range goes, NaN where the beam
            sees nothing.
        foot: x and y of the point under the camera in the ground frame [m].
    """

    cells: Labels
    angle_min: float
    angle_increment: float
    ranges: Floats
    foot: tuple[float, float]


def kinds(ground: Collection[int]) -> Labels:
    """For each id FREE, BLOCKED or, for 255, UNSEEN: uint8 (256,).

    Args:
        ground: The ids of the classes that are ground.
    """
    table = np.full(256, BLOCKED, np.uint8)
    table[_UNLABELLED] = UNSEEN
    table[list(ground)] = FREE
    return table


class GroundProjection:
    """Where the pixels of one camera, in one place, lie on the plane z = 0 of the ground frame.

    What is computed here serves all masks until the camera moves.

    Args:
        camera: The mask's calibration; its distortion is applied.
        rotation: From the camera's optical frame (z forward, x right) to the ground frame (z up), (3, 3).
        translation: Likewise, (3,) [m]; with the camera's `centre` its z is the camera's height.
        grid: Which cells.
        beams: How many directions ranges are given for; 0 is one a column of the image.

    Raises:
        ImageError: ``below_ground``: the camera is not above the plane; ``no_ground``: none of its pixels
            sees the plane within the range.
    """

    def __init__(
        self, camera: Camera, rotation: Matrix, translation: Matrix, grid: GridSpec, beams: int = 0
    ) -> None:
        self._camera, self._grid = camera, grid
        # Rays begin where the camera is, which need not be its frame's origin.
        x, y, height = translation + rotation @ np.array(camera.centre)
        self._rotation, self._height = rotation, float(height)
        self.foot = float(x), float(y)
        if self._height < MIN_HEIGHT_M:
            raise ImageError(
                "below_ground",
                f"The camera is {self._height:.2f} m above the ground plane; it must be above it by "
                f"{MIN_HEIGHT_M:g} m or more: check the ground frame and the ground's height in it.",
            )
        angles, nearest = self._seen()
        count = beams or camera.width
        self.angle_increment = (angles[1] - angles[0]) / count
        # A beam is in the middle of its share.
        self.angle_min = angles[0] + self.angle_increment / 2
        self._angles = self.angle_min + self.angle_increment * np.arange(count)
        self._set_beams(max(nearest, 1e-3))
        self._set_cells()

    def view(self, labels: Labels, table: Labels) -> GroundView:
        """Looks at a mask.

        Args:
            labels: uint8 (H, W).
            table: From `kinds`.

        Raises:
            ImageError: ``bad_size``: the mask is not of the camera's size.
        """
        self._camera.check_mask(labels)
        # What is not in the image is the pixel after the last one.
        pixels = np.empty(labels.size + 1, np.uint8)
        np.take(table, labels.reshape(-1), out=pixels[:-1])
        pixels[-1] = UNSEEN
        ranges, blocked = self._ends(pixels)
        cells = self._cells(pixels, ranges, blocked)
        return GroundView(cells, self.angle_min, self.angle_increment, ranges, self.foot)

    def _seen(self) -> tuple[tuple[float, float], float]:
        """The angles between which the ground is seen, and how near it is [m], of every 4th pixel."""
        height, width = self._camera.height, self._camera.width
        rows = np.unique(np.append(np.arange(0, height, 4), height - 1))
        columns = np.unique(np.append(np.arange(0, width, 4), width - 1))
        x, y = (ray[np.ix_(rows, columns)].astype(np.float64) for ray in self._camera.rays)
        dx, dy, dz = (r[0] * x + r[1] * y + r[2] for r in self._rotation)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = self._height / -dz
            distance = np.hypot(dx, dy) * reach
        down = (dz < 0) & (distance <= self._grid.max_range_m)
        if not down.any():
            # The lower edge need not be the one that looks down, of a camera that is mounted sideways.
            angles = np.arctan2(dz, np.hypot(dx, dy))
            lowest = math.degrees(float(np.fmin.reduce(angles, axis=None, initial=math.pi / 2)))
            way = "up" if lowest >= 0 else "down"
            raise ImageError(
                "no_ground",
                f"No pixel sees the ground within {self._grid.max_range_m:g} m: the camera is "
                f"{self._height:.2f} m above it, and its lowest ray points {abs(lowest):.1f} degrees {way}; "
                "check where the camera looks in the ground frame, or raise ground_range_m.",
            )
        east, north, near = dx[down], dy[down], distance[down]
        middle = math.atan2(north.sum(), east.sum())
        # About the middle: angles do not jump there, where the camera looks back.
        c, s = math.cos(middle), math.sin(middle)
        off = np.arctan2(north * c - east * s, east * c + north * s)
        half_px = 0.5 / self._camera.fx
        low, high = max(float(off.min()) - half_px, -math.pi), min(float(off.max()) + half_px, math.pi)
        return (middle + low, middle + high), float(near.min())

    def _pixels(self, x: Floats, y: Floats) -> npt.NDArray[np.int32]:
        """Which pixel sees places of the plane, by their x and y from the foot [m]; H * W where none does."""
        to_camera = self._rotation.T.astype(np.float32)
        points = [row[0] * x + row[1] * y - row[2] * np.float32(self._height) for row in to_camera]
        row, column, inside = self._camera.pixels_of(*points)
        pixel = np.asarray(row * np.int32(self._camera.width) + column, np.int32)
        pixel[~inside] = self._camera.width * self._camera.height
        return pixel

    def _set_beams(self, nearest_m: float) -> None:
        """Samples along each beam, near ones first, so that none of the image's rows is left out.

        They are even in the angle below the horizon: so are the rows of an image, about, of a camera that
        looks ahead and of one that sees the point under itself.
        """
        far_m = max(self._grid.max_range_m, nearest_m)
        angles = math.atan2(self._height, nearest_m), math.atan2(self._height, far_m)
        trial = self._sampled(np.linspace(*angles, _TRIAL))[1]
        seen = trial < self._camera.width * self._camera.height
        row, column = np.divmod(trial, self._camera.width)
        step = np.hypot(np.diff(row), np.diff(column))[seen[:, 1:] & seen[:, :-1]]
        # By a pixel at most.
        steps = math.ceil(_TRIAL * float(step.max())) if step.size else _TRIAL
        self._inverse, self._beams = self._sampled(np.linspace(*angles, min(max(_TRIAL, steps), _MAX_STEPS)))

    def _sampled(self, below_horizon: Matrix) -> tuple[Floats, npt.NDArray[np.int32]]:
        """1 / range of each sample, and its pixel in each beam (beams, samples)."""
        inverse = np.asarray(np.tan(below_horizon) / self._height, np.float32)
        cos, sin = (f(self._angles).astype(np.float32)[:, None] for f in (np.cos, np.sin))
        return inverse, self._pixels(cos / inverse, sin / inverse)

    def _ends(self, pixels: Labels) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """The ranges, and whether it is something that ends them: an edge of what is seen may, too."""
        along = pixels.take(self._beams)
        seen = along != UNSEEN
        first = seen.argmax(axis=1)
        # What lies nearer than the image's edge is not known, and ends nothing.
        ends = (along != FREE) & (np.arange(along.shape[1]) >= first[:, None])
        place = ends.argmax(axis=1)
        # The border is between the last place that is free and the first one that is not.
        before = np.maximum(place - 1, first)
        ranges = 2 / (self._inverse[place] + self._inverse[before])
        every = np.arange(len(along))
        ranges[~ends[every, place]] = np.inf
        ranges[~seen[every, first]] = np.nan
        return ranges, along[every, place] == BLOCKED

    def _set_cells(self) -> None:
        columns, rows = self._grid.size
        side = self._grid.resolution_m
        x = (self._grid.x_m[0] - self.foot[0] + side * (np.arange(columns) + 0.5)).astype(np.float32)
        y = (self._grid.y_m[0] - self.foot[1] + side * (np.arange(rows) + 0.5)).astype(np.float32)
        east, north = np.broadcast_to(x, (rows, columns)), np.broadcast_to(y[:, None], (rows, columns))
        distance = np.hypot(east, north)
        near = np.flatnonzero(distance <= self._grid.max_range_m)
        east, north = east.reshape(-1)[near], north.reshape(-1)[near]
        pixel = self._pixels(east, north)
        seen = pixel < self._camera.width * self._camera.height
        self._cell, self._cell_pixel = near[seen], pixel[seen]
        self._cell_range = distance.reshape(-1)[near][seen]
        # A cell a little before the first beam is the first one's, and none of the last one's.
        turn = np.arctan2(north[seen], east[seen]) - self.angle_min + 1.5 * self.angle_increment
        beam = np.floor(np.mod(turn, 2 * math.pi) / self.angle_increment) - 1
        self._cell_beam = np.clip(beam, 0, len(self._angles) - 1).astype(np.intp)

    def _cells(self, pixels: Labels, ranges: Floats, blocked: npt.NDArray[np.bool_]) -> Labels:
        columns, rows = self._grid.size
        side = self._grid.resolution_m
        cells = np.full(rows * columns, UNSEEN, np.uint8)
        kind = pixels.take(self._cell_pixel)
        # Behind what stands, pixels show its body and not what is on the plane there.
        hidden = self._cell_range > ranges.take(self._cell_beam) + np.float32(side)
        kind[(kind == BLOCKED) & hidden] = UNSEEN
        cells[self._cell] = kind
        # A foot may be thinner than a cell, and hit no cell's middle.
        reach, angles = ranges[blocked], self._angles[blocked]
        column = np.floor((reach * np.cos(angles) + self.foot[0] - self._grid.x_m[0]) / side).astype(np.intp)
        row = np.floor((reach * np.sin(angles) + self.foot[1] - self._grid.y_m[0]) / side).astype(np.intp)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        cells[row[inside] * columns + column[inside]] = BLOCKED
        return cells.reshape(rows, columns)
