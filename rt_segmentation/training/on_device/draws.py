"""Random amounts of a batch's augmentation: drawn with NumPy, sent to the device in one copy."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from rt_segmentation.data.appearance import LUMA, Appearance, hue_turn
from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.mixing import Mixing

EDGES = 4
"""Of a shadow's outline; where it has fewer, one stands there twice."""


@dataclass(frozen=True)
class Draws:
    """Amounts by frame, float32 of N rows on the device.

    Attributes:
        crop: (N, 6), a map (column, row, 1) of the crop to (column, row) of the frame, by rows.
        color: (N, 3), factors of brightness, contrast and saturation.
        matrix: (N, 9), of RGB columns: hue turns and grays.
        gains: (N, 3), of the channels.
        gamma: (N, 1), the exponent.
        shadow: (N, 1 + 3 EDGES), its factor, and for each edge (a, b, c) with a x + b y + c the distance from
            it, positive inside [px]; the factor is 1 without a shadow.
        vignette: (N, 1), darkening of the corners.
        fog: (N, 2), its share at the bottom row's opposite, the top, and its gray.
        blur: (N, 1), standard deviation [px], 0 is without.
        noise: (N, 1), standard deviation [gray levels].
        quality: (N, 1), of a JPEG compression, 0 is without.
        amplitude: (N, 1), share of the other frame's amplitudes.
        paste: (N, 1), 1 where things are pasted.
    """

    crop: torch.Tensor
    color: torch.Tensor
    matrix: torch.Tensor
    gains: torch.Tensor
    gamma: torch.Tensor
    shadow: torch.Tensor
    vignette: torch.Tensor
    fog: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    quality: torch.Tensor
    amplitude: torch.Tensor
    paste: torch.Tensor


WIDTHS = {
    "crop": 6,
    "color": 3,
    "matrix": 9,
    "gains": 3,
    "gamma": 1,
    "shadow": 1 + 3 * EDGES,
    "vignette": 1,
    "fog": 2,
    "blur": 1,
    "noise": 1,
    "quality": 1,
    "amplitude": 1,
    "paste": 1,
}
"""Columns of `draw`'s table, by the fields of `Draws`."""


def draw(
    augmentation: Augmentation, mixing: Mixing, sizes: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a batch's amounts, each as `Augmentation`, `Appearance` and `Mixing` draw it for a frame.

    Args:
        augmentation: of the recipe.
        mixing: of the recipe.
        sizes: width and height of each frame, (N, 2) [px].
        rng: decides.

    Returns:
        float32 (N, sum of `WIDTHS`), the fields of `Draws` side by side.
    """
    count = len(sizes)
    look = augmentation.appearance
    colors = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    columns = {
        "crop": augmentation.sources_of_crops(sizes, rng).reshape(count, 6),
        "color": 1 + rng.uniform(-1, 1, (count, 3)) * colors,
        "matrix": _matrices(look, count, rng),
        "gains": 1 + rng.uniform(-1, 1, (count, 3)) * look.white_balance,
        "gamma": np.exp(rng.uniform(-1, 1, (count, 1)) * np.log1p(look.gamma)),
        "shadow": _shadows(look, count, augmentation.width, augmentation.height, rng),
        "vignette": rng.uniform(0, 1, (count, 1)) * look.vignette,
        "fog": rng.uniform((0, 140), (look.haze, 240), (count, 2)),
        "blur": _half(count, rng) * rng.uniform(0.1, max(0.1, look.blur), (count, 1)) * (look.blur > 0),
        "noise": _half(count, rng) * rng.uniform(0, 1, (count, 1)) * look.noise,
        "quality": _half(count, rng) * rng.integers(max(1, look.jpeg), 101, (count, 1)) * (look.jpeg > 0),
        "amplitude": (rng.random((count, 1)) < mixing.amplitude) * rng.uniform(0, 1, (count, 1)),
        "paste": rng.random((count, 1)) < mixing.paste,
    }
    return np.concatenate([columns[name] for name in WIDTHS], 1).astype(np.float32)


def fields_of(table: torch.Tensor) -> Draws:
    """The parts of a table on a device."""
    return Draws(*torch.split(table, list(WIDTHS.values()), 1))


def _half(count: int, rng: np.random.Generator) -> np.ndarray:
    """1 for every second frame, 0 for the others, (count, 1)."""
    return np.asarray(rng.random((count, 1)) < 0.5)


def _matrices(look: Appearance, count: int, rng: np.random.Generator) -> np.ndarray:
    turns = rng.uniform(-look.hue_deg, look.hue_deg, count)
    matrices = np.stack([hue_turn(degrees) for degrees in turns])
    matrices[rng.random(count) < look.gray] = np.tile(LUMA, (3, 1))
    return matrices.reshape(count, 9)


def _shadows(look: Appearance, count: int, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    corners = rng.uniform(0, 1, (count, 4, 2)) * (width, height)
    factors = np.where(rng.random(count) < look.shadow, rng.uniform(0.3, 0.8, count), 1)
    rows = [
        [factor, *_edges(cv2.convexHull(points.astype(np.float32))[:, 0].astype(float)).ravel()]
        for factor, points in zip(factors, corners)
    ]
    return np.array(rows)


def _edges(hull: np.ndarray) -> np.ndarray:
    """Lines (a, b, c) of a convex outline (corners, 2), (EDGES, 3), positive inside."""
    along = np.roll(hull, -1, 0) - hull
    normals = np.column_stack((-along[:, 1], along[:, 0]))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    lines = np.column_stack((normals, -(normals * hull).sum(1)))
    middle = lines @ [*hull.mean(0), 1]
    lines *= np.where(middle < 0, -1, 1)[:, None]
    return np.asarray(np.concatenate((lines, np.repeat(lines[-1:], EDGES - len(lines), 0))))
