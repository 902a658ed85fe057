"""From images and labels to a model of your own: `python examples/own_dataset.py FOLDER`.

FOLDER holds train/images, train/labels, val/images and val/labels. Label images are gray PNGs with a class id
per pixel. If FOLDER is not there, this example draws one: bright disks on a dark ground.
"""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

import rt_segmentation as rt

LABELS = """name: disks
classes:
  - {id: 0, name: ground, color: [60, 60, 60]}
  - {id: 1, name: disk, color: [230, 180, 30]}
"""
RECIPE = """base: enet_camvid
name: disks
source: an example
label_set: LABELS
train: [{dataset: folder, split: train}]
validation: {dataset: folder, split: val}
width: 64
height: 64
augmentation: {width: 64, height: 64}
epochs: 15
batch_size: 5
optimizer: {learning_rate: 0.01}
data_license: ours
"""


def prepare(root: Path) -> None:
    """Draw images where there are none, and write the label set."""
    if not root.exists():
        draw(root / "train")
        draw(root / "val")
    (root / "labels.yaml").write_text(LABELS)


def draw(folder: Path) -> None:
    """Write ten images and their labels."""
    rng = np.random.default_rng(1)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(10):
        labels = np.zeros((64, 64), np.uint8)
        center = rng.integers(16, 48, 2).tolist()
        cv2.circle(labels, (center[0], center[1]), int(rng.integers(6, 16)), 1, -1)
        image = 40 + 150 * labels[..., None] + rng.integers(0, 40, (64, 64, 3))
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image.astype(np.uint8))
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), labels)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    prepare(root)
    (root / "disks.yaml").write_text(RECIPE.replace("LABELS", str(root / "labels.yaml")))
    train = [sys.executable, "-m", "rt_segmentation.cli", "train", str(root / "disks.yaml")]
    subprocess.run([*train, "--data-root", str(root), "--out", str(root / "runs")], check=True)

    segmenter = rt.Segmenter(root / "runs" / "disks" / "disks.yaml")
    image = cv2.imread(str(root / "val" / "images" / "0.png"))
    print(f"disk: {(segmenter(image[..., ::-1]).labels == 1).mean():.1%} of the image")
