"""Measure how far free space is off on the synthetic street, and draw it: `python tools/ground_error.py`.

The truth is taken from the street's depth: along each direction the nearest thing below 2 m that is neither
road nor pavement. `--model lednet` measures the model's masks beside the true ones, `--picture FILE` draws
one frame.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

import rt_segmentation as rt
from rt_segmentation.data.street_dataset import DEMO_SEED
from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetClass, StreetScene
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.ground import BLOCKED, FREE, GridSpec, GroundProjection, GroundView, kinds
from rt_segmentation.labels import load_label_set

WIDTH, HEIGHT = 640, 360
RANGE_M = 20.0
GRID = GridSpec((0.0, RANGE_M), (-10.0, 10.0), 0.1, RANGE_M)
GROUND = frozenset({int(StreetClass.ROAD), int(StreetClass.PAVEMENT)})
BELOW_M, TOUCHES_M = 2.0, 0.1
# The optical axes in a frame with x ahead, y to the left and z up.
AHEAD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
PX_PER_CELL = 3


def projection(scene: StreetScene, time_s: float) -> GroundProjection:
    """That of a frame; the street's camera nods, and its calibration with it."""
    focal, cx, cy = scene.pinhole(time_s)
    camera = Camera(WIDTH, HEIGHT, focal, focal, cx, cy)
    return GroundProjection(camera, AHEAD, np.array([0, 0, CAMERA_HEIGHT_M]), GRID)


def truth_of(
    scene: StreetScene, time_s: float, labels: np.ndarray, angles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far each direction is free [m], float (beams,), of the depth and not of the projection.

    And whether what ends it there touches the ground: its lowest pixel is within 0.1 m of it.
    """
    depth = scene.render_depth(time_s)
    focal, cx, cy = scene.pinhole(time_s)
    up = CAMERA_HEIGHT_M - (np.arange(HEIGHT)[:, None] - cy) / focal * depth
    thing = ~np.isin(labels, [*GROUND, StreetClass.SKY]) & (up < BELOW_M)
    ahead = np.where(thing, depth, np.inf).min(axis=0)
    lowest = HEIGHT - 1 - (~np.isin(labels, [*GROUND]))[::-1].argmax(axis=0), np.arange(WIDTH)
    touches = (np.abs(up[lowest]) < TOUCHES_M) & (depth[lowest] < ahead + 0.5)
    own = np.arctan2(cx - np.arange(WIDTH), focal)
    nearest = np.abs(own[None] - angles[:, None]).argmin(axis=1)
    return (ahead / np.cos(own))[nearest], touches[nearest]


def angles_of(view: GroundView) -> np.ndarray:
    """The beams' angles [rad]."""
    return view.angle_min + view.angle_increment * np.arange(len(view.ranges))


def report(name: str, found: np.ndarray, truth: np.ndarray) -> None:
    """Print the errors of beams up to some distances; what has no end is taken to be free up to 20 m."""
    found = np.where(np.isinf(found), RANGE_M, found)
    for near, far in ((0, 5), (5, 10), (10, 20), (0, 20)):
        chosen = (truth >= near) & (truth < far) & np.isfinite(found)
        error = (found - truth)[chosen]
        if not error.size:
            continue
        print(
            f"{name:24} truth {near:2} to {far:2} m: {chosen.sum():6} beams, |error| median "
            f"{np.median(np.abs(error)):.2f} p95 {np.percentile(np.abs(error), 95):.2f} m, "
            f"signed p5 {np.percentile(error, 5):+.2f} p95 {np.percentile(error, 95):+.2f} m, "
            f"too far by over 1 m: {np.mean(error > 1):.1%}",
            flush=True,
        )


def from_above(view: GroundView) -> np.ndarray:
    """The grid, RGB uint8, x up: free light, blocked red, unknown dark; the ranges' ends are blue."""
    colours = np.full((3, 3), 60, np.uint8)
    colours[FREE], colours[BLOCKED] = (214, 222, 214), (210, 60, 50)
    picture = np.kron(colours[view.cells.T[::-1, ::-1]], np.ones((PX_PER_CELL, PX_PER_CELL, 1), np.uint8))
    scale = PX_PER_CELL / GRID.resolution_m
    for metres in range(0, round(RANGE_M), 5):
        row = picture.shape[0] - 1 - round(metres * scale)
        cv2.line(picture, (0, row), (picture.shape[1] - 1, row), (120, 120, 120), 1)
        place, font = (4, row - 4), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, f"{metres} m", place, font, 0.45, (190, 190, 190), 1, cv2.LINE_AA)
    ends = np.isfinite(view.ranges)
    reach, angles = view.ranges[ends], angles_of(view)[ends]
    for x, y in zip(reach * np.cos(angles), reach * np.sin(angles)):
        place = round((GRID.y_m[1] - y) * scale), picture.shape[0] - 1 - round(x * scale)
        cv2.circle(picture, place, 1, (30, 90, 230), -1)
    return picture


def draw(path: Path, rgb: np.ndarray, labels: np.ndarray, view: GroundView) -> None:
    """Write a frame, its labels and the grid side by side."""
    overlay = cv2.addWeighted(rgb, 0.5, load_label_set("camvid11").palette()[labels], 0.5, 0.0)
    left, above = np.vstack([rgb, overlay]), from_above(view)
    size = round(above.shape[1] * left.shape[0] / above.shape[0]), left.shape[0]
    picture = np.hstack([left, cv2.resize(above, size, interpolation=cv2.INTER_AREA)])
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 84])


def speed(scene: StreetScene) -> None:
    """Print what a mask takes, and what a camera that moved takes besides: the core's time."""
    cv2.setNumThreads(1)
    labels, table = scene.render(0.0)[1], kinds(GROUND)
    kept = projection(scene, 0.0)
    for name, work in (
        ("a mask", lambda: kept.view(labels, table)),
        ("the camera's tables", lambda: projection(scene, 0.0)),
    ):
        times = []
        for _ in range(40):
            began = time.thread_time()
            work()
            times.append(1e3 * (time.thread_time() - began))
        print(f"{WIDTH}x{HEIGHT}, {name}: min {min(times):.2f} median {np.median(times):.2f} ms")


def main() -> None:
    """Measure, and draw if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="whose masks are measured beside the true ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[DEMO_SEED, 1, 2, 3, 4, 5])
    parser.add_argument("--times", type=float, nargs="+", default=[0.7, 3.3, 6.1, 9.0, 12.4], metavar="S")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    segmenter = rt.Segmenter(arguments.model) if arguments.model else None
    table = kinds(GROUND)
    found: dict[str, list[np.ndarray]] = {}
    truths, touching = [], []
    for seed in arguments.seeds:
        scene = StreetScene(seed, WIDTH, HEIGHT)
        for time_s in arguments.times:
            rgb, labels = scene.render(time_s)
            masks = {"true mask": labels}
            if segmenter is not None:
                masks[arguments.model] = segmenter(rgb).labels
            projected = projection(scene, time_s)
            views = {name: projected.view(mask, table) for name, mask in masks.items()}
            truth, touches = truth_of(scene, time_s, labels, angles_of(views["true mask"]))
            truths.append(truth)
            touching.append(touches)
            for name, view in views.items():
                found.setdefault(name, []).append(view.ranges)
            if arguments.picture is not None:
                draw(arguments.picture, rgb, [*masks.values()][-1], [*views.values()][-1])
                arguments.picture = None
    for name, ranges in found.items():
        measured, truth, on_ground = map(np.concatenate, (ranges, truths, touching))
        report(f"{name}, all", measured, truth)
        report(f"{name}, touching", measured[on_ground], truth[on_ground])
    speed(StreetScene(DEMO_SEED, WIDTH, HEIGHT))


if __name__ == "__main__":
    main()
