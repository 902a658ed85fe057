"""CVAT's "Segmentation mask 1.1": a zip of coloured masks in folders as Pascal VOC has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from rt_segmentation.data.exchange.containers import Container, new_zip
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    read_stored,
)
from rt_segmentation.labels import IGNORE_ID, LabelSet

Color = tuple[int, int, int]
BACKGROUND = "background"
BLACK: Color = (0, 0, 0)
MASKS = "SegmentationClass/"
_LINE = re.compile(r"(?P<label>.*?):(?P<r>\d+),(?P<g>\d+),(?P<b>\d+):[^:]*:[^:]*")


def write(path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions) -> None:
    """Write a zip; unlabelled pixels are black, and 'background' in its list of labels.

    Classes have the label set's colours, but for black and for colours that several have.

    Raises:
        ExchangeError: a class's name cannot be in the list.
        OSError: the file cannot be written.
    """
    colors = _colors(label_set)
    palette = np.zeros((256, 3), np.uint8)
    lines = ["# label:color_rgb:parts:actions"]
    if BACKGROUND not in label_set.names:
        lines.append(f"{BACKGROUND}:0,0,0::")
    for c, color in zip(label_set.classes, colors):
        if ":" in c.name or c.name.startswith("#") or c.name != c.name.strip() or "\n" in c.name:
            raise ExchangeError(
                f"class '{c.name}' of {label_set.name} cannot be in labelmap.txt, where ':' ends a name and"
                " '#' begins a comment"
            )
        palette[c.id] = color
        lines.append(f"{c.name}:{color[0]},{color[1]},{color[2]}::")
    names = []
    with new_zip(path) as archive:
        for frame in frames:
            name = str(PurePosixPath(frame.name).with_suffix(""))
            encoded = cv2.imencode(".png", palette[frame.labels][..., ::-1])[1].tobytes()
            archive.writestr(f"{MASKS}{name}.png", encoded)
            names.append(name)
        archive.writestr("labelmap.txt", "\n".join(lines) + "\n")
        archive.writestr("ImageSets/Segmentation/default.txt", "".join(f"{name}\n" for name in names))


def read(path: Path, names: ClassNames) -> Iterator[LabelledFrame]:
    """Read the masks of SegmentationClass of a zip or of an unpacked folder.

    Raises:
        ExchangeError: `labelmap.txt` or the masks are missing or wrong, or a mask has another colour.
    """
    container = Container(path)
    labels = _labelmap(container)
    files = [name for name in container.endings(".png") if MASKS in f"/{name}"]
    if not files:
        raise ExchangeError(f"{container.path} has no masks SegmentationClass/*.png")
    ids = []
    for label, color in labels:
        is_nothing = (label == BACKGROUND or color == BLACK) and not names.knows(label)
        ids.append(IGNORE_ID if is_nothing else names.find(label))
    names.check(container.path)
    keys = np.array([_key(np.array(color, np.int32)) for _, color in labels])
    order = np.argsort(keys)
    for file in files:
        stored = read_stored(container.read(file), container.text(file))
        if stored.ndim == 2:
            # Without colours: numbers of the labels, in their order.
            index, known = np.minimum(stored, len(ids) - 1), stored < len(ids)
        else:
            wanted = _key(stored.astype(np.int32))
            index = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
            # Whatever the list says of it, black is where CVAT draws nothing.
            known = (keys[index] == wanted) | (wanted == 0)
        if not known.all():
            first = stored[~known][0]
            raise ExchangeError(
                f"{container.text(file)} has {np.count_nonzero(~known)} pixels of no label in labelmap.txt,"
                f" as {tuple(first.tolist()) if stored.ndim == 3 else int(first)}"
            )
        classes = np.array(ids, np.uint8)[index]
        if stored.ndim == 3:
            classes[keys[index] != wanted] = IGNORE_ID
        inside = file[file.rindex(MASKS) + len(MASKS) :]
        yield LabelledFrame(str(PurePosixPath(inside).with_suffix("")), classes)


class _Label(NamedTuple):
    name: str
    color: Color


def _labelmap(container: Container) -> list[_Label]:
    file = container.only("labelmap.txt", "a CVAT segmentation mask 1.1")
    try:
        lines = container.read(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ExchangeError(f"{container.text(file)} is not UTF-8 text") from error
    labels: list[_Label] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        color = tuple(int(match[part]) for part in "rgb") if match else ()
        if match is None or max(color) > 255:
            raise ExchangeError(
                f"{container.text(file)}, line {number}: '{line}' is not LABEL:R,G,B:PARTS:ACTIONS"
            )
        labels.append(_Label(match["label"], (color[0], color[1], color[2])))
    by_color: dict[Color, str] = {}
    for label in labels:
        other = by_color.setdefault(label.color, label.name)
        if other != label.name:
            raise ExchangeError(
                f"{container.text(file)} gives '{other}' and '{label.name}' one colour, {label.color}"
            )
    if not labels:
        raise ExchangeError(f"{container.text(file)} has no labels")
    return labels


def _key(colors: np.ndarray) -> np.ndarray:
    return np.asarray((colors[..., 0] << 16) + (colors[..., 1] << 8) + colors[..., 2])


def _colors(label_set: LabelSet) -> list[Color]:
    """A colour of its own for each class, and none is black."""
    taken = {BLACK} | {c.color for c in label_set.classes}
    used: set[Color] = {BLACK}
    colors = []
    # 512 colours, far apart.
    others = ((r, g, b) for r in range(15, 256, 32) for g in range(15, 256, 32) for b in range(15, 256, 32))
    for c in label_set.classes:
        color = c.color
        if color in used:
            color = next(other for other in others if other not in taken)
        used.add(color)
        colors.append(color)
    return colors
