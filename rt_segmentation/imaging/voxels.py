"""A labelled cloud with one point for each voxel."""

from __future__ import annotations

import numpy as np

from rt_segmentation.imaging.cloud import Floats, without_gaps
from rt_segmentation.imaging.errors import ImageError

# Three indices and a label share one integer of 64 bits.
_INDEX_BITS = 18
_LABEL_BITS = 8
_X, _RGB, _LABEL, _CONFIDENCE = 0, 4, 5, 6


def voxel_grid(cloud: Floats, size_m: float) -> Floats:
    """One point for each voxel that has any: their mean place, most frequent label, and its mean confidence.

    Of labels that are equally frequent the lowest id is taken. The colour is the mean of the points that have
    the label.

    Args:
        cloud: float32 (H, W, 8); points with NaN coordinates are left out.
        size_m: Side of a voxel [m].

    Returns:
        float32 (1, N, 8), by place: z slowest, x fastest.

    Raises:
        ImageError: ``bad_size``: the cloud is more than 262143 voxels wide.
    """
    points: Floats = without_gaps(cloud)[0]
    if not len(points):
        return points[None]
    index = np.floor(points[:, :3].astype(np.float64) / size_m)
    index -= index.min(axis=0)
    if index.max() >= 1 << _INDEX_BITS:
        raise ImageError(
            "bad_size",
            f"The cloud is {index.max() * size_m:.0f} m wide, too much for voxels of {size_m:g} m; "
            "set a larger voxel_size_m or a max_range_m.",
        )
    x, y, z = index.astype(np.int64).T
    voxel = (z << _INDEX_BITS | y) << _INDEX_BITS | x
    label = points[:, _LABEL].view(np.uint32).astype(np.int64)
    # A group is the points of one voxel with one label.
    groups, group, sizes = np.unique(voxel << _LABEL_BITS | label, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    starts = np.flatnonzero(np.diff(groups >> _LABEL_BITS, prepend=-1))
    home = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(groups)))
    # The first of the largest groups of each voxel: by voxel, then by size, then by label.
    chosen = np.lexsort((groups, -sizes, home))[starts]
    result = np.zeros((len(starts), points.shape[1]), np.float32)
    count = np.add.reduceat(sizes, starts)
    for axis in range(_X, _X + 3):
        total = np.bincount(home[group], points[:, axis], len(starts))
        result[:, axis] = total / count
    result[:, _LABEL] = (groups[chosen] & 0xFF).astype(np.uint32).view(np.float32)
    certain = np.bincount(group, points[:, _CONFIDENCE], len(groups))
    result[:, _CONFIDENCE] = certain[chosen] / sizes[chosen]
    colours = points[:, _RGB].view(np.uint32)
    mixed = np.zeros(len(starts), np.uint32)
    for shift in (16, 8, 0):
        total = np.bincount(group, colours >> shift & 0xFF, len(groups))
        mixed |= np.rint(total[chosen] / sizes[chosen]).astype(np.uint32) << np.uint32(shift)
    result[:, _RGB] = mixed.view(np.float32)
    return result[None]
