"""Labels out to annotation tools and back, pixel by pixel, and by the tools' own libraries."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.commands.dataset_exchange import FORMATS as FORMAT_NAMES
from rt_segmentation.data.exchange import FORMATS
from rt_segmentation.data.exchange.brush import decode, encode
from rt_segmentation.data.exchange.frames import ClassNames, ExchangeError, ExportOptions, LabelledFrame
from rt_segmentation.data.exchange.moving import export_labels, import_labels
from rt_segmentation.data.exchange.shapes import from_run_lengths, regions, run_lengths, trace
from rt_segmentation.labels import LabelClass, LabelSet, load_label_set

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
    labels[spots] = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), int(spots.sum()))
    return labels


FRAMES = [
    LabelledFrame("one.jpg", nested()),
    LabelledFrame("two é.png", noise(1)),
    LabelledFrame("three.v2.png", noise(2)),
    LabelledFrame("nothing.png", np.full((32, 33), 255, np.uint8)),
    LabelledFrame("all.png", np.full((32, 32), 2, np.uint8)),
]


def round_trip(kind: str, tmp_path: Path, options: ExportOptions = ExportOptions()) -> dict[str, np.ndarray]:
    target = tmp_path / OUT.get(kind, "folder")
    export_labels(kind, target, FRAMES, SITE, options)
    import_labels(kind, target, ClassNames(SITE), tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([target.name, "back"]), "nothing unfinished"
    read = {}
    for file in (tmp_path / "back" / "labels").iterdir():
        read[file.stem] = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return read


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_goes_out_comes_back_pixel_by_pixel(kind: str, shapes: str, tmp_path: Path) -> None:
    if kind == "coco" or (kind == "cvat" and shapes == "polygons"):
        pytest.importorskip("pycocotools", reason="polygons are drawn by pycocotools, which is missing")
    read = round_trip(kind, tmp_path, ExportOptions(polygons=shapes == "polygons"))
    expected = dict(zip(["one", "two é", "three.v2", "nothing", "all"], (f.labels for f in FRAMES)))
    if kind == "label-studio":
        # A task without regions does not say how large its image is.
        del expected["nothing"]
    assert sorted(read) == sorted(expected)
    for name, labels in expected.items():
        np.testing.assert_array_equal(read[name], labels, name)


def test_the_command_knows_all_formats() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES
