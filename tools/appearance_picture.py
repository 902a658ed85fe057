"""Show the frames that one model segments worst in another light, and what another model makes of them.

`python -m tools.appearance_picture enet_town enet_long_road --out docs/dusk.jpg` looks among rendered
streets. `--data-root /data/camvid --split test --drive 0001TP --shift "as it is"` takes CamVid's dusk drive,
whose pictures may not be published under this package's licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import rt_segmentation as rt
from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.dataset import SegmentationDataset
from rt_segmentation.data.street_dataset import Street
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.imaging.pictures import sheet, write_picture
from rt_segmentation.imaging.render import colorize
from tools.appearance_shifts import SHIFTS
from tools.running import run_tool

STREETS, FIRST_SEED = 40, 100_000
"""Streets that no recipe trains on."""


def frames_of(arguments: argparse.Namespace) -> tuple[SegmentationDataset, list[int]]:
    """The frames, and the indices of those that are looked at.

    Raises:
        RtSegmentationError: there are none.
    """
    if arguments.data_root is None:
        return Street(STREETS, 1, FIRST_SEED, 640, 360), list(range(STREETS))
    frames = CamVid(arguments.data_root, arguments.split)
    indices = [i for i, name in enumerate(frames.names()) if name.startswith(arguments.drive)]
    if not indices:
        raise RtSegmentationError(
            f"no frame of {arguments.data_root}, split {arguments.split}, begins with '{arguments.drive}'"
        )
    return frames, indices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("before", help="the model whose worst frames are shown: a name, or a manifest's path")
    parser.add_argument("after", help="the model that is compared with it")
    parser.add_argument("--shift", choices=tuple(SHIFTS), default="dusk", help="of appearance (default dusk)")
    parser.add_argument("--count", type=int, default=3, help="frames to show (default 3)")
    parser.add_argument("--data-root", type=Path, help="CamVid's folder (default: rendered streets)")
    parser.add_argument("--split", default="val", help="of CamVid (default val)")
    parser.add_argument("--drive", default="", help="what the frames' names begin with (default: all)")
    parser.add_argument("--engine", default="auto", help="what executes the models (default auto)")
    parser.add_argument("--out", type=Path, required=True, help="the picture")


def main(arguments: argparse.Namespace) -> None:
    """Write the picture, and print both models' mean IoU over all frames that were looked at."""
    frames, indices = frames_of(arguments)
    shift, classes = SHIFTS[arguments.shift], len(frames.label_set.classes)
    names = (arguments.before, arguments.after)
    overall = [ConfusionMatrix(classes) for _ in names]
    found: list[tuple[float, int, list[np.ndarray], list[float]]] = []
    segmenters = [rt.Segmenter(name, arguments.engine, "fp32") for name in names]
    for index in indices:
        sample = frames[index]
        image, masks, scores = shift(sample.image), [], []
        for segmenter, total in zip(segmenters, overall):
            masks.append(segmenter(image).labels.copy())
            of_frame = ConfusionMatrix(classes)
            for matrix in (of_frame, total):
                matrix.update(sample.labels, masks[-1])
            scores.append(of_frame.mean_iou())
        found.append((scores[0], index, masks, scores))
    for name, total in zip(names, overall):
        print(f"{name}, {arguments.shift}: mean IoU {100 * total.mean_iou():.1f} on {len(indices)} frames")
    rows, palette = [], frames.label_set.palette()
    for _, index, masks, scores in sorted(found, key=lambda frame: frame[0])[: max(1, arguments.count)]:
        sample = frames[index]
        shown = [(f"{sample.name}, {arguments.shift}", shift(sample.image))]
        shown.append(("truth", colorize(sample.labels, palette)))
        for name, mask, score in zip(names, masks, scores):
            shown.append((f"{name}: {100 * score:.0f} % mean IoU", colorize(mask, palette)))
        rows.append(shown)
    write_picture(arguments.out, sheet(rows, frames.label_set, 320))


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
