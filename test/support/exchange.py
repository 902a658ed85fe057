"""Label images that are hard to draw, and the label set that they are exchanged with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_segmentation.data.exchange.frames import ClassNames
from rt_segmentation.data.exchange.moving import import_labels
from rt_segmentation.labels import LabelClass, LabelSet

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="pycocotools, which draws polygons, is missing"
)
# Black, one colour twice, a name with a space, an accent and XML's own characters.
CLASSES = (
    LabelClass(0, "road", (0, 0, 0), "flat"),
    LabelClass(1, "traffic sign", (220, 20, 60), "object"),
    LabelClass(2, "Fußgänger & <Hund>", (220, 20, 60), "object"),
    LabelClass(3, "sky", (70, 130, 180), "sky"),
)
SITE = LabelSet("site", CLASSES)
OUT = {"cvat": "a.xml", "cvat-masks": "a.zip", "coco": "a.json", "label-studio": "a.json"}


def nested() -> np.ndarray:
    """Rings within rings, unlabelled holes, corners that touch, single pixels, and regions at all edges."""
    labels = np.zeros((40, 48), np.uint8)
    cv2.circle(labels, (20, 20), 15, 1, -1)
    cv2.circle(labels, (20, 20), 11, 255, -1)
    cv2.circle(labels, (20, 20), 8, 2, -1)
    cv2.circle(labels, (20, 20), 4, 0, -1)
    labels[19:22, 19:22] = 3
    labels[20, 20] = 255
    labels[:4, 40:] = 255
    for i in range(8):
        labels[30 + i, 38 + i] = 1
        labels[30 + i, 45 - i] = 2
    # A ring that closes by a corner alone, around pixels that are connected to the outside by a corner.
    labels[2:7, 30:35] = 3
    labels[3:6, 31:34] = 0
    labels[2, 34] = 0
    labels[3, 34] = 3
    return labels


def noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (12, 12))
    labels = cv2.resize(small, (40, 34), interpolation=cv2.INTER_NEAREST)
    spots = rng.random(labels.shape) < 0.1
    labels[spots] = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), np.count_nonzero(spots))
    return labels


def back(kind: str, path: Path, names: ClassNames | None = None, images: Path | None = None) -> np.ndarray:
    """The labels of a file with one image."""
    out = path.parent / f"back{len(list(path.parent.glob('back*')))}"
    import_labels(kind, path, names or ClassNames(SITE), out, images)
    (file,) = (out / "labels").iterdir()
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
