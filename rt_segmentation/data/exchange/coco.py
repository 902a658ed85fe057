"""COCO's JSON of instances: polygons where iscrowd is 0, run lengths where it is 1."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.data.exchange.containers import Container
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    blank_labels,
    names_by_id,
    safe_name,
)
from rt_segmentation.data.exchange.shapes import coco_mask, polygon_mask, regions, run_lengths
from rt_segmentation.files import write_atomically
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.text import printable


def write(path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions) -> None:
    """Write a .json; categories have the classes' ids plus 1, as 0 is COCO's background.

    A region is a polygon, or run lengths where it has holes, which a polygon of COCO has not. Without
    polygons a class is one annotation an image. No two annotations overlap, unless `tolerance_px` is above 0.

    Raises:
        OSError: the file cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, labels) in enumerate(frames, 1):
        height, width = labels.shape
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for value, mask, polygon in _shapes(labels, options):
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            left, top = int(xs[0]), int(ys[0])
            segmentation = (
                [polygon]
                if polygon is not None
                else {"size": [height, width], "counts": run_lengths(mask.T.ravel())}
            )
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": value + 1,
                    "segmentation": segmentation,
                    "area": int(np.count_nonzero(mask)),
                    "bbox": [left, top, int(xs[-1]) + 1 - left, int(ys[-1]) + 1 - top],
                    "iscrowd": int(polygon is None),
                }
            )
    content = {
        "info": {"description": f"label set {label_set.name}, by {options.source}"},
        "licenses": [],
        "categories": [
            {"id": c.id + 1, "name": c.name, "supercategory": c.category} for c in label_set.classes
        ],
        "images": images,
        "annotations": annotations,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content).encode())


def _shapes(
    labels: np.ndarray, options: ExportOptions
) -> Iterator[tuple[int, np.ndarray, list[float] | None]]:
    """Class, mask in the image and polygon, which is None for run lengths."""
    if not options.polygons:
        for value in np.unique(labels[labels != IGNORE_ID]).tolist():
            yield value, labels == value, None
        return
    for region in regions(labels):
        if region.value == IGNORE_ID:
            continue
        mask = np.zeros(labels.shape, bool)
        height, width = region.mask.shape
        mask[region.top : region.top + height, region.left : region.left + width] = region.mask
        polygon = None if region.has_holes else region.outline(options.tolerance_px).ravel().tolist()
        yield region.value, mask, polygon


def read(path: Path, names: ClassNames) -> Iterator[LabelledFrame]:
    """Read a .json of instances, or a .zip with one; later annotations cover earlier ones.

    Raises:
        ExchangeError: it is no such file, or an annotation is wrong; the message says which.
        MissingPackageError: pycocotools is not installed.
    """
    container = Container(path)
    file = container.only(".json", "a COCO file")
    text = container.text(file)
    content = container.json(file)
    lists: dict[str, list[dict[str, Any]]] = {}
    for key in ("images", "categories", "annotations"):
        entries = content.get(key) if isinstance(content, dict) else None
        lists[key] = entries if isinstance(entries, list) else []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ExchangeError(f"{text} is not COCO's: it has no list '{key}' of objects")
    for entry in (entry for entries in lists.values() for entry in entries):
        for key in ("id", "image_id", "category_id"):
            if not isinstance(entry.get(key), (int, str, type(None))):
                raise ExchangeError(f"{text} has the {key} {entry[key]!r}; it must be a number")
    categories = names_by_id(
        ((entry.get("id"), str(entry.get("name"))) for entry in lists["categories"]), text, "categories"
    )
    by_image: dict[Any, list[dict[str, Any]]] = {entry.get("id"): [] for entry in lists["images"]}
    if len(by_image) < len(lists["images"]):
        raise ExchangeError(f"{text} has images without an id, or two of one id")
    for annotation in lists["annotations"]:
        where = f"{text}: annotation {annotation.get('id')!r}"
        if annotation.get("image_id") not in by_image:
            raise ExchangeError(f"{where} is of the image {annotation.get('image_id')!r}, which is missing")
        if annotation.get("category_id") not in categories:
            raise ExchangeError(
                f"{where} is of the category {annotation.get('category_id')!r}, which is missing"
            )
        by_image[annotation["image_id"]].append(annotation)
    for image in lists["images"]:
        name = safe_name(image.get("file_name"), text)
        labels = blank_labels(image.get("width"), image.get("height"), name, text)
        for annotation in by_image[image["id"]]:
            value = names.find(categories[annotation["category_id"]])
            try:
                labels[_mask(annotation.get("segmentation"), *labels.shape)] = value
            except (ValueError, TypeError) as error:
                raise ExchangeError(
                    f"{text}: annotation {annotation.get('id')!r} of {printable(name)}: {error}"
                ) from error
        yield LabelledFrame(name, labels)


def _mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask of an annotation, bool (height, width); raises ValueError."""
    if isinstance(segmentation, list) and segmentation:
        return polygon_mask(segmentation, width, height)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise ValueError("it has no segmentation, as polygons or run lengths; a box alone is no labels")
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"its mask's size is {segmentation.get('size')}, its image's [{height}, {width}]")
    counts = segmentation["counts"]
    mask = coco_mask()
    if isinstance(counts, list):
        if not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != height * width:
            raise ValueError(f"its run lengths are not whole numbers with the sum {height * width}")
        return np.asarray(mask.decode(mask.frPyObjects(segmentation, height, width))).astype(bool)
    if not isinstance(counts, str) or not counts.isascii():
        raise ValueError("its counts are neither a list nor COCO's text")
    packed = {"size": [height, width], "counts": counts.encode()}
    # Decoding writes past the image where the runs are longer than it.
    if _packed_total(counts) != height * width:
        raise ValueError(f"the sum of its packed run lengths is not {height * width}")
    return np.asarray(mask.decode(packed)).astype(bool)


def _packed_total(text: str) -> int:
    """The sum of the run lengths in COCO's text: 5 bits a character, differences from the third run on."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return -1 if shift or any(count < 0 for count in counts) else sum(counts)
