"""Measure how long a labelled cloud takes, on one core: `python tools/cloud_speed.py`.

Two times are printed, that of the core and that of the clock; they differ where other programs want the core,
and both grow then. The copy of as many bytes as a cloud of 640x480 has says what the memory gives meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import (
    Selection,
    cloud_of_camera_points,
    cloud_of_depth,
    cloud_of_points,
    empty_cloud,
)
from rt_segmentation.imaging.voxels import voxel_grid

ROUNDS = 40
CHOSEN = Selection(0.5, 30.0, drop=frozenset({0}))
BEAMS, STEPS = 64, 2048
# From a lidar's axes (x ahead, z up) to a camera's (z ahead, y down).
TURN, SHIFT = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), np.array([0.0, 0.3, -0.1])


def report(name: str, work: Callable[[], object], rounds: int = ROUNDS) -> None:
    """Print the fastest and the middle round."""
    work()
    core, clock = [], []
    for _ in range(rounds):
        began, began_core = time.perf_counter(), time.thread_time()
        work()
        core.append(time.thread_time() - began_core)
        clock.append(time.perf_counter() - began)
    figures = [f"{1e3 * min(t):6.2f} {1e3 * float(np.median(t)):6.2f}" for t in (core, clock)]
    print(f"{name:46} core [ms] min, median {figures[0]}   clock {figures[1]}", flush=True)


def main() -> None:
    """Measure all ways to a cloud."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    source, target = np.ones((480, 640, 8), np.float32), empty_cloud(480, 640)
    report("(copying the bytes of 640x480)", lambda: np.copyto(target, source))
    for width, height in ((640, 480), (1280, 720)):
        measure_camera(rng, width, height)
    measure_lidar(rng, 1280, 720)


def scene(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, Camera, dict[str, Any]]:
    """Labels, their camera, and the confidence and colours that points get."""
    size = (height, width)
    camera = Camera(width, height, 0.9 * width, 0.9 * width, width / 2 - 0.5, height / 2 - 0.5)
    paint = {
        "confidence": rng.integers(0, 256, size).astype(np.uint8),
        "rgb": rng.integers(0, 256, (*size, 3)).astype(np.uint8),
    }
    return rng.integers(0, 11, size).astype(np.uint8), camera, paint


def measure_camera(rng: np.random.Generator, width: int, height: int) -> None:
    """Clouds of depth images and of a camera's own cloud."""
    labels, camera, paint = scene(rng, width, height)
    metres, out = rng.uniform(0.1, 50, labels.shape).astype(np.float32), empty_cloud(height, width)
    of_depth = partial(cloud_of_depth, labels=labels, camera=camera, out=out, **paint)
    name = f"{width}x{height}"
    report(f"{name}, depth 32FC1", partial(of_depth, depth=metres))
    report(f"{name}, depth 16UC1", partial(of_depth, depth=(metres * 1000).astype(np.uint16)))
    report(f"{name}, depth 32FC1, range and a class out", partial(of_depth, depth=metres, selection=CHOSEN))
    points = np.ascontiguousarray(of_depth(depth=metres)[..., :3])
    report(f"{name}, organised cloud", partial(cloud_of_camera_points, points, labels, out=out, **paint))
    report(f"{name}, voxels of 0.1 m", partial(voxel_grid, out, 0.1), rounds=3)


def measure_lidar(rng: np.random.Generator, width: int, height: int) -> None:
    """A sweep that is projected into the mask."""
    labels, camera, paint = scene(rng, width, height)
    azimuth = np.tile(np.linspace(-np.pi, np.pi, STEPS), BEAMS)
    elevation = np.repeat(np.radians(np.linspace(-25, 15, BEAMS)), STEPS)
    flat = np.cos(elevation)
    beams = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=-1)
    sweep = (beams * rng.uniform(2, 60, len(beams))[:, None]).astype(np.float32)[None]
    of_points = partial(cloud_of_points, sweep, labels, camera, TURN, SHIFT, **paint)
    name = f"lidar, {BEAMS * STEPS} points"
    report(name, of_points)
    report(f"{name}, the nearest wins", partial(of_points, nearest_wins=True))
    report(f"{name}, range and a class out", partial(of_points, selection=CHOSEN))


if __name__ == "__main__":
    main()
