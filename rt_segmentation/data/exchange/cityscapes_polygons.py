"""Polygons as Cityscapes has them: a JSON an image, later objects over earlier ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from rt_segmentation.data.exchange.containers import Container
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    blank_labels,
    stem_of,
    unlabelled_name,
)
from rt_segmentation.data.exchange.shapes import clip_polygon, regions
from rt_segmentation.files import new_folder, write_atomically
from rt_segmentation.labels import IGNORE_ID, LabelSet

ENDING = "_gtFine_polygons.json"
_NAME = re.compile(r"(_gt(Fine|Coarse))?_polygons$")
# Objects that their scripts do not draw.
NOT_DRAWN = ("license plate",)
FAR_PX = 1 << 15


def write(path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions) -> None:
    """Write a folder with STEM_gtFine_polygons.json for each frame.

    A region is drawn with all that it encloses, and that after it; enclosed unlabelled pixels are an object
    'unlabelled'. Polygons go through the centres of pixels, as Cityscapes' scripts draw them.

    Raises:
        OSError: the folder is there and is not empty, or cannot be written.
    """
    with new_folder(path) as folder:
        for frame in frames:
            height, width = frame.labels.shape
            objects: list[dict[str, Any]] = []
            for region in regions(frame.labels):
                if region.value == IGNORE_ID and not region.depth:
                    continue
                name = (
                    unlabelled_name(label_set) if region.value == IGNORE_ID else label_set.names[region.value]
                )
                points = region.contour()
                if options.tolerance_px > 0:
                    simpler = cv2.approxPolyDP(points[:, None].astype(np.int32), options.tolerance_px, True)
                    points = simpler[:, 0] if len(simpler) > 2 else points
                objects.append({"label": name, "polygon": points.tolist()})
            stem = stem_of(frame.name).removesuffix("_leftImg8bit")
            content = {"imgHeight": height, "imgWidth": width, "objects": objects}
            write_atomically(folder / f"{stem}{ENDING}", json.dumps(content).encode())


def read(path: Path, names: ClassNames) -> Iterator[LabelledFrame]:
    """Read a folder, a zip, or one .json of polygons.

    'cargroup' is 'car' where it is no class of its own; objects of `NOT_DRAWN` are not drawn, and what an
    annotator deleted is not either.

    Raises:
        ExchangeError: there are no such files, or one is wrong; the message says where.
    """
    container = Container(path)
    files = container.endings(".json")
    if not files:
        raise ExchangeError(f"{container.path} has no *_polygons.json")
    for file in files:
        text = container.text(file)
        content = container.json(file)
        if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
            raise ExchangeError(f"{text} is not Cityscapes' polygons: it has no list 'objects'")
        name = _NAME.sub("", str(PurePosixPath(file).with_suffix("")))
        labels = blank_labels(content.get("imgWidth"), content.get("imgHeight"), name, text)
        for number, entry in enumerate(content["objects"], 1):
            if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
                raise ExchangeError(f"{text}: object {number} has no label")
            label = entry["label"]
            if entry.get("deleted") or (label in NOT_DRAWN and not names.knows(label)):
                continue
            if not names.knows(label) and label.endswith("group"):
                label = label.removesuffix("group")
            points, value = _points(entry.get("polygon"), f"{text}: object {number}"), names.find(label)
            if len(points):
                cv2.fillPoly(labels, [points], value)
        yield LabelledFrame(name, labels)


def _points(polygon: Any, where: str) -> np.ndarray:
    try:
        points = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[0] < 1 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ExchangeError(f"{where} has no polygon of points [x, y]")
    return np.asarray(np.round(clip_polygon(points, FAR_PX)), np.int32)[:, None]
