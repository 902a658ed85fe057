"""Label Studio's JSON of tasks: brush masks written, brush masks and polygons read."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np

from rt_segmentation.data.exchange.brush import decode, encode
from rt_segmentation.data.exchange.containers import Container
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    blank_labels,
    safe_name,
)
from rt_segmentation.data.exchange.shapes import polygon_mask
from rt_segmentation.files import write_atomically
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.text import counted, printable

logger = logging.getLogger(__name__)

NO_AREA = ("choices", "datetime", "number", "rating", "relation", "taxonomy", "textarea")
"""Results that say something of an image, or of regions, and mark none."""

# What an upload's name begins with, to tell it from others.
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")


def write(path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions) -> None:
    """Write a .json of tasks with predictions; a class is one brush mask an image.

    The labelling configuration has an Image called 'image' and BrushLabels called 'tag'.

    Raises:
        OSError: the file cannot be written.
    """
    tasks = []
    for number, (name, labels) in enumerate(frames):
        height, width = labels.shape
        result = [
            {
                "id": f"{number}-{value}",
                "type": "brushlabels",
                "from_name": "tag",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "format": "rle",
                    "rle": encode(labels == value),
                    "brushlabels": [label_set.names[value]],
                },
            }
            for value in np.unique(labels[labels != IGNORE_ID]).tolist()
        ]
        tasks.append(
            {
                "data": {"image": options.image_prefix + quote(name)},
                "predictions": [{"model_version": options.source, "result": result}],
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(tasks).encode())


def read(path: Path, names: ClassNames) -> Iterator[LabelledFrame]:
    """Read a .json of tasks: of each the newest annotation that was not cancelled, else its last prediction.

    Later regions cover earlier ones. A task without either, or whose annotation marks nothing, is left out;
    the log says how many are, and of how many a prediction was taken.

    Raises:
        ExchangeError: it is no such file, or a region is wrong; the message says which.
        MissingPackageError: there are polygons, and pycocotools is not installed.
    """
    container = Container(path)
    file = container.only(".json", "an export of Label Studio")
    text = container.text(file)
    tasks = container.json(file)
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "data" in t for t in tasks):
        raise ExchangeError(f"{text} is not a list of tasks with 'data'; export as JSON, not JSON-MIN")
    empty = predicted = 0
    for number, task in enumerate(tasks, 1):
        where = f"{text}: task {task.get('id', number)!r}"
        name = _image_name(task["data"], where)
        results, is_prediction = _results(task, where)
        labels: np.ndarray | None = None
        for result in results:
            kind = str(result.get("type")).lower() if isinstance(result, dict) else ""
            if kind in NO_AREA:
                continue
            value = result.get("value") if isinstance(result, dict) else None
            if not isinstance(value, dict):
                raise ExchangeError(f"{where} has a result without a value")
            size = result.get("original_width"), result.get("original_height")
            layer = blank_labels(*size, name, text)
            labels = layer if labels is None else labels
            if labels.shape != layer.shape:
                raise ExchangeError(f"{where} has results of images of two sizes")
            try:
                mask = _mask(kind, value, labels.shape[1], labels.shape[0])
            except (ValueError, TypeError) as error:
                raise ExchangeError(f"{where} ({printable(name)}): {error}") from error
            if result.get("image_rotation"):
                raise ExchangeError(f"{where} ({printable(name)}) is rotated; save the image as it should be")
            found = value.get(kind) or value.get("labels")
            if not isinstance(found, list) or len(found) != 1:
                raise ExchangeError(f"{where} ({printable(name)}) has a region with the labels {found!r}")
            labels[mask] = names.find(str(found[0]))
        empty += labels is None
        predicted += labels is not None and is_prediction
        if labels is not None:
            yield LabelledFrame(name, labels)
    if empty:
        logger.warning("%s: %s without any region, left out", text, counted(empty, "task"))
    if predicted:
        logger.warning(
            "%s: of %s the last prediction is taken, as nobody annotated it", text, counted(predicted, "task")
        )


def _mask(kind: str, value: dict[str, Any], width: int, height: int) -> np.ndarray:
    if value.get("format") == "rle" or "rle" in value:
        return decode(value.get("rle", ()), width, height)
    if "points" in value and kind in ("polygonlabels", "polygon"):
        points = np.asarray(value["points"], np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError("its polygon is not a list of points (x, y)")
        # Per cent of the image.
        return polygon_mask([(points * (width / 100, height / 100)).ravel()], width, height)
    raise ValueError(f"it has a region of the type '{kind}'; brush and polygon labels can be read")


def _results(task: dict[str, Any], where: str) -> tuple[list[Any], bool]:
    """The regions, and whether they are a prediction's."""
    annotations = task.get("annotations") or task.get("completions") or []
    predictions = task.get("predictions") or []
    for kind in (annotations, predictions):
        if not isinstance(kind, list) or not all(isinstance(entry, dict) for entry in kind):
            raise ExchangeError(f"{where} has annotations or predictions that are not objects")
    kept = [entry for entry in annotations if not entry.get("was_cancelled")]
    kept.sort(key=lambda entry: str(entry.get("updated_at", "")))
    chosen = (kept or predictions)[-1:]
    if not chosen:
        return [], False
    result = chosen[0].get("result")
    if not isinstance(result, list):
        raise ExchangeError(f"{where} has an annotation without a list 'result'")
    return result, not kept


def _image_name(data: Any, where: str) -> str:
    image = data.get("image") if isinstance(data, dict) else None
    if image is None and isinstance(data, dict) and len(data) == 1:
        (image,) = data.values()
    if not isinstance(image, str):
        raise ExchangeError(f"{where} has no image in its data")
    url = urlsplit(image)
    # Local files are named in the query: /data/local-files/?d=folder/0001.jpg
    (name,) = parse_qs(url.query).get("d", [unquote(url.path)])[:1]
    safe = safe_name(name.lstrip("/") or name, where)
    last = PurePosixPath(safe).name
    return _UPLOAD.sub("", last, count=1) if "/upload/" in url.path else safe
