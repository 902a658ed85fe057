"""Draw the labelled cloud of a street from above, beside the image that it is of.

`python tools/cloud_picture.py docs/cloud.jpg --model enet` makes the picture of the documentation and prints
how many points have their true class. Without a model the true labels are drawn.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

import rt_segmentation as rt
from rt_segmentation.data.street_dataset import DEMO_SEED
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import Selection, cloud_of_depth, without_gaps
from rt_segmentation.labels import LabelSet, load_label_set

WIDTH, HEIGHT = 640, 360
AHEAD_M, ASIDE_M, PX_PER_M = 44.0, 15.0, 16
GRID_M = 10


def from_above(cloud: np.ndarray, labels: LabelSet) -> np.ndarray:
    """The points in their classes' colours, RGB uint8: the camera at the lower edge, looking up."""
    size = (round(AHEAD_M * PX_PER_M), round(2 * ASIDE_M * PX_PER_M))
    picture = np.full((*size, 3), 24, np.uint8)
    for metres in range(0, round(AHEAD_M), GRID_M):
        row = size[0] - 1 - metres * PX_PER_M
        picture[row] = 70
        cv2.putText(
            picture, f"{metres} m", (4, row - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (170,) * 3, 1, cv2.LINE_AA
        )
    points = without_gaps(cloud)[0]
    # What is higher is drawn later, over what lies below: y points down.
    points = points[np.argsort(-points[:, 1])]
    column = np.rint((points[:, 0] + ASIDE_M) * PX_PER_M).astype(int)
    row = size[0] - 1 - np.rint(points[:, 2] * PX_PER_M).astype(int)
    shown = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    ids = points[:, 5].view(np.uint32)
    colours = labels.palette()[ids[shown]]
    # A dot covers the ground between the far rows of an image.
    for x, y, colour in zip(column[shown], row[shown], colours.tolist()):
        cv2.circle(picture, (int(x), int(y)), 1, colour, -1)
    return picture


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture")
    parser.add_argument("--model", help="whose labels are drawn; the true ones without it")
    parser.add_argument("--seed", type=int, default=DEMO_SEED)
    parser.add_argument("--time", type=float, default=3.3, metavar="S")
    arguments = parser.parse_args()
    scene = StreetScene(arguments.seed, WIDTH, HEIGHT)
    rgb, truth = scene.render(arguments.time)
    label_set, labels = load_label_set("camvid11"), truth
    if arguments.model:
        labels = rt.Segmenter(arguments.model)(rgb).labels
    focal, cx, cy = scene.pinhole(arguments.time)
    camera = Camera(WIDTH, HEIGHT, focal, focal, cx, cy)
    depth = scene.render_depth(arguments.time)
    cloud = cloud_of_depth(depth, labels, camera, selection=Selection(max_range_m=AHEAD_M))
    seen = np.isfinite(cloud[..., 2])
    for limit in (10, 20, AHEAD_M):
        near = seen & (depth < limit)
        print(
            f"within {limit:g} m: {np.mean(labels[near] == truth[near]):.1%} of {near.sum()} points are right"
        )
    overlay = cv2.addWeighted(rgb, 0.5, label_set.palette()[labels], 0.5, 0.0)
    above = from_above(cloud, label_set)
    left = np.vstack([rgb, overlay])
    left = cv2.copyMakeBorder(left, 0, max(0, above.shape[0] - left.shape[0]), 0, 0, cv2.BORDER_CONSTANT)
    above = cv2.copyMakeBorder(above, 0, left.shape[0] - above.shape[0], 0, 0, cv2.BORDER_CONSTANT)
    picture = cv2.cvtColor(np.hstack([left, above]), cv2.COLOR_RGB2BGR)
    cv2.imwrite(arguments.picture, picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
