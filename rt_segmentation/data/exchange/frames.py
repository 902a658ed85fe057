"""What passes between label images and the files of annotation tools: frames, names of classes, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from rt_segmentation.data.dataset import name_some
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import IMAGE_SUFFIXES
from rt_segmentation.imaging.codec import MAX_SIDE_PX
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.headers import read_header
from rt_segmentation.imaging.label_images import decode_ids, decode_stored
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.text import counted, printable

UNLABELLED_NAMES = ("unlabelled", "unlabeled", "ignore")
"""Labels that mean 255 where no class has that name."""


class ExchangeError(RtSegmentationError, ValueError):
    """A file of annotations that cannot be read or written; the message names it and what is wrong."""


class LabelledFrame(NamedTuple):
    """An image's file name, folders with '/', and its labels, uint8 (H, W) with 255 = unlabelled."""

    name: str
    labels: np.ndarray


@dataclass(frozen=True)
class ExportOptions:
    """How labels become shapes.

    Attributes:
        polygons: write regions as polygons where they can be; False writes masks.
        tolerance_px: how far a polygon may be from a region's edge [px]; 0 is exact.
        image_prefix: what stands before an image's name where the format has a URL.
        source: who made the labels, as a model's name.
    """

    polygons: bool = True
    tolerance_px: float = 0.0
    image_prefix: str = ""
    source: str = "rt_segmentation"


class ClassNames:
    """Finds classes by the labels of an annotation tool, and counts labels that mean nothing.

    Case does not matter, unless classes differ by it alone.

    Args:
        label_set: the classes.
        renamed: class name by label, for labels that are called otherwise.
        accept_unknown: unknown labels are unlabelled; False refuses them at the end.

    Raises:
        ExchangeError: `renamed` names no class.
    """

    def __init__(
        self, label_set: LabelSet, renamed: Mapping[str, str] | None = None, accept_unknown: bool = False
    ) -> None:
        self.label_set = label_set
        self.unknown: Counter[str] = Counter()
        self._accept_unknown = accept_unknown
        self._unused: set[str] = set(renamed or ())
        self._ids: dict[str, int] = {c.name: c.id for c in reversed(label_set.classes)}
        for name in label_set.names:
            self._ids.setdefault(name.lower(), self._ids[name])
        for name in UNLABELLED_NAMES:
            self._ids.setdefault(name, IGNORE_ID)
        for label, name in (renamed or {}).items():
            found = self._ids.get(name, self._ids.get(name.lower()))
            if found is None:
                raise ExchangeError(
                    f"label '{label}' cannot become '{name}', which is no class of label set"
                    f" {label_set.name}: {name_some(label_set.names)}"
                )
            self._ids[label] = found

    def knows(self, label: str) -> bool:
        """Whether a label means a class, or unlabelled."""
        return label in self._ids or label.lower() in self._ids

    def find(self, label: str) -> int:
        """The class of a label, or 255; an unknown label is counted and is 255."""
        self._unused.discard(label)
        self._unused.discard(label.lower())
        found = self._ids.get(label, self._ids.get(label.lower()))
        if found is None:
            self.unknown[label] += 1
            return IGNORE_ID
        return found

    @property
    def unused(self) -> list[str]:
        """The renamed labels that have not been looked up, sorted."""
        return sorted(self._unused)

    @property
    def is_refused(self) -> bool:
        """Whether `check` would raise."""
        return bool(self.unknown) and not self._accept_unknown

    def check(self, path: object) -> None:
        """Refuse what was found unknown so far.

        Raises:
            ExchangeError: unknown labels were looked up and are not accepted; all are named.
        """
        if self.is_refused:
            named = [
                f"'{printable(label)}' ({counted(count, 'time')})"
                for label, count in self.unknown.most_common()
            ]
            unknown = counted(len(named), "label")
            raise ExchangeError(
                f"{printable(path)} has {unknown} that label set {self.label_set.name} lacks:"
                f" {name_some(named)}; its classes are {name_some(self.label_set.names)}. Give --map"
                " LABEL=CLASS for each, or --unknown unlabelled"
            )


def unlabelled_name(label_set: LabelSet) -> str:
    """A label that means 255: one that no class of the set has for its name."""
    taken = {name.lower() for name in label_set.names}
    free = [name for name in UNLABELLED_NAMES if name not in taken]
    if not free:
        raise ExchangeError(
            f"label set {label_set.name} has classes of all names that mean unlabelled: {UNLABELLED_NAMES}"
        )
    return free[0]


def names_by_id(listed: Iterable[tuple[Any, str]], where: str, things: str) -> dict[Any, str]:
    """Names by their ids, of which each has one.

    Args:
        listed: each id with its name.
        where: they stand, for messages.
        things: that have them, as 'classes'.

    Raises:
        ExchangeError: two names have one id.
    """
    names: dict[Any, str] = {}
    for number, name in listed:
        if (other := names.setdefault(number, name)) != name:
            raise ExchangeError(f"{where} has two {things} of the id {number!r}, {other!r} and {name!r}")
    return names


def safe_name(name: Any, path: object) -> str:
    """The name of an image or of a file within another, with '/' between folders.

    Raises:
        ExchangeError: it is no name, or leads out of its folder.
    """
    if not isinstance(name, str) or not name.strip("/\\ ") or "\0" in name:
        raise ExchangeError(f"{printable(path)} has the image name {name!r}; it must be a file's name")
    parts = name.replace("\\", "/")
    pure = PurePosixPath(parts)
    if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise ExchangeError(f"{printable(path)} names '{printable(name)}', which is outside its folder")
    return str(pure)


def check_sides(width: int, height: int, what: str) -> None:
    """Refuse an image of a size [px] that none has, before memory is asked for.

    Raises:
        ExchangeError: a side is 0, or too long.
    """
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise ExchangeError(f"{what} is {width}x{height} px; each side must be 1 to {MAX_SIDE_PX} px")


def read_stored(data: bytes, what: str) -> np.ndarray:
    """What a label file stores: numbers (H, W), or colours uint8 (H, W, 3) RGB, also of a palette.

    Raises:
        ExchangeError: it is no PNG that can be read, or too large.
    """
    return _decoded(decode_stored, data, what)


def read_ids(data: bytes, what: str) -> np.ndarray:
    """The ids of a label file, uint8 (H, W); of a palette, the colours' numbers.

    Raises:
        ExchangeError: it is no PNG that can be read, has other numbers, or is too large.
    """
    return _decoded(decode_ids, data, what)


def _decoded(decode: Callable[[bytes], np.ndarray], data: bytes, what: str) -> np.ndarray:
    try:
        header = read_header(data)
        if header is not None:
            check_sides(header.width, header.height, what)
        return decode(data)
    except ImageError as error:
        raise ExchangeError(f"{what}: {error}") from error


def blank_labels(width: Any, height: Any, name: str, path: object) -> np.ndarray:
    """Labels that are all 255, uint8 (height, width).

    Raises:
        ExchangeError: the size is none, or is beyond what images may have.
    """
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in (width, height)):
        raise ExchangeError(
            f"{printable(path)}: image '{printable(name)}' has the size {width!r} x {height!r}; it must be"
            " width and height in whole pixels"
        )
    check_sides(width, height, f"{printable(path)}: image '{printable(name)}'")
    return np.full((height, width), IGNORE_ID, np.uint8)


def stem_of(name: str) -> str:
    """A frame's name without folders and an image's suffix: what its label file is called."""
    last = PurePosixPath(name).name
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else last
