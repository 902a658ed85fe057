"""Measure models on CamVid val as it is and as other light and other cameras would have it.

`python tools/appearance_shifts.py --data-root /data/camvid enet enet_town` prints a table of mean IoU.
Each shift is fixed, where the training's augmentation draws many at random. They say what a change of
appearance costs; they are no substitute for an unseen road.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

import rt_segmentation as rt
from rt_segmentation.data.camvid import CamVid
from rt_segmentation.evaluation.metrics import ConfusionMatrix


def _scaled(image: np.ndarray, factor: float | np.ndarray, offset: float = 0.0) -> np.ndarray:
    return np.asarray(np.clip(image * factor + offset, 0, 255), np.uint8)


def dusk(image: np.ndarray) -> np.ndarray:
    """Dark and bluish, with the noise of a high gain."""
    dark = 255 * (image / 255.0) ** 1.6 * 0.7
    noise = 4 * np.random.default_rng(0).standard_normal(image.shape)
    return _scaled(dark * np.array((0.85, 0.8, 1.0)) + noise, 1.0)


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "dusk": dusk,
    "overexposed": lambda image: _scaled(image, 1.5, 20),
    "warm white balance": lambda image: _scaled(image, np.array((1.2, 1.0, 0.75))),
    "blurred": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8),
    "low contrast": lambda image: _scaled(image, 0.45, 0.55 * 128),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", help="models, or paths of manifests")
    parser.add_argument("--data-root", type=Path, required=True, help="CamVid's folder")
    parser.add_argument("--engine", default="torch", help="what executes the models (default torch)")
    arguments = parser.parse_args()
    frames = CamVid(arguments.data_root, "val")
    print(f"| model | {' | '.join(SHIFTS)} |\n|---|{'---|' * len(SHIFTS)}")
    for name in arguments.models:
        segmenter = rt.Segmenter(name, arguments.engine, "fp32")
        scores = []
        for shift in SHIFTS.values():
            confusion = ConfusionMatrix(len(frames.label_set.classes))
            for index in range(len(frames)):
                sample = frames[index]
                confusion.update(sample.labels, segmenter(shift(sample.image)).labels)
            scores.append(f"{100 * confusion.mean_iou():.1f}")
        print(f"| `{segmenter.config.manifest.name}` | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
