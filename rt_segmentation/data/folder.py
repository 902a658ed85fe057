"""Anybody's labelled images: folders of images and of label pictures, and a label set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.data.dataset import (
    ColorMap,
    DatasetError,
    FileDataset,
    IdMap,
    as_ids,
    ignore_hint,
    pair_files,
    read_stored,
)
from rt_segmentation.data.split_lists import list_file, read_list
from rt_segmentation.imaging.headers import read_header
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.labels import IGNORE_ID, LabelSet, load_label_set
from rt_segmentation.text import printable

MAX_DEEP_ID = 65535
"""The largest number in a label image of 16 bits, where some tools have what is unlabelled."""

# (images, labels) below the root; without a split the part before or after it falls away.
LAYOUTS = (("{split}/images", "{split}/labels"), ("images/{split}", "labels/{split}"))


class Folder(FileDataset):
    """Images, of any suffix in `IMAGE_SUFFIXES`, with label PNGs of the same names.

    A label PNG is gray with the label set's ids, at any depth, or coloured (also with a palette) in the label
    set's colours; both may occur. Where no colour of the set is gray, a gray one of three channels has ids.
    255 and what `ignore` names are unlabelled. Folders without any PNG may have lossless WebP instead.

    Args:
        root: has `SPLIT/images` and `SPLIT/labels`, or `images/SPLIT` and `labels/SPLIT`; or a list
            `SPLIT.txt`, as `rt_seg dataset split` writes it, which goes first.
        split: '' where the data are not split.
        label_set: a name, the path of a YAML file, or the set itself.
        ignore: more ids, and colours [R, G, B], that mean unlabelled; or one id. Of 16-bit files up to 65535.
        complete: refuse images without labels; False leaves them out.
        image_bits: how many bits 16-bit images use, or 'auto'.

    Raises:
        DatasetError: folders or labels are missing, two classes share a colour and masks are coloured, or
            `ignore` is wrong; reading a frame raises it for a bad file, id or colour.
        LabelSetError: the label set cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        label_set: str | Path | LabelSet,
        ignore: int | Sequence[int | Sequence[int]] = (),
        complete: bool = True,
        image_bits: str | int = AUTO,
    ) -> None:
        labels = label_set if isinstance(label_set, LabelSet) else load_label_set(label_set)
        root = Path(root)
        if not root.is_dir():
            raise DatasetError(f"folder {printable(root)} does not exist")
        # A layout without a split would begin with '/', and be a folder of the whole disk.
        candidates = [
            tuple(root / part.format(split=split).strip("/") for part in layout) for layout in LAYOUTS
        ]
        found = next(((images, folder) for images, folder in candidates if folder.is_dir()), None)
        is_listed = bool(split) and list_file(root, split).is_file()
        if found is None and not is_listed:
            tried = " or ".join(dict.fromkeys(str(folder) for _, folder in candidates))
            raise DatasetError(f"split '{split}' has no labels: {tried} should exist")
        pairing = read_list(root, split) if is_listed or found is None else pair_files(*found)
        reader = _LabelReader(labels, *_parse_ignore(ignore))
        super().__init__(labels, pairing, reader, complete, image_bits)


class _LabelReader:
    """Reads a label file as ids or as colours, whichever it is."""

    def __init__(
        self, labels: LabelSet, ignored: list[int], ignored_colors: list[tuple[int, int, int]]
    ) -> None:
        shallow = [i for i in ignored if i <= IGNORE_ID]
        self._ids = IdMap({c.id: c.id for c in labels.classes}, (IGNORE_ID, *shallow), ignorable=True)
        colors: dict[tuple[int, int, int], int] = {}
        self._ambiguous = ""
        for c in labels.classes:
            other = labels.names[colors.setdefault(c.color, c.id)]
            if other != c.name and not self._ambiguous:
                self._ambiguous = f"'{other}' and '{c.name}' of {labels.name} have one colour, {c.color}"
        colors.update(dict.fromkeys(ignored_colors, IGNORE_ID))
        self._colors = ColorMap(colors, ignorable=True)
        self._has_gray = any(r == g == b for r, g, b in colors)
        self._deep_ignored = [i for i in ignored if i > IGNORE_ID]

    def __call__(self, path: Path) -> np.ndarray:
        stored = read_stored(path)
        if stored.ndim == 2:
            return self._ids.convert(self._as_ids(stored, path), path)
        # Ids in three channels, with alpha or with a gray palette. A black picture may be one of colours as
        # well, of a frame without any label.
        if not self._has_gray and _is_gray(stored) and stored.any():
            return self._ids(path)
        if self._ambiguous:
            raise DatasetError(f"{path} is coloured, but {self._ambiguous}; give gray labels of ids instead")
        try:
            return self._colors.convert(stored, path)
        except DatasetError as error:
            raise DatasetError(f"{error}{self._palette_hint(path)}") from error

    def _as_ids(self, stored: np.ndarray, path: Path) -> np.ndarray:
        """Ids uint8 (H, W) of one channel, where those of 16 bits may be unlabelled, too."""
        if stored.dtype != np.uint16:
            return as_ids(stored, path)
        if self._deep_ignored:
            stored = np.where(np.isin(stored, self._deep_ignored), np.uint16(IGNORE_ID), stored)
        deep = np.unique(stored[stored > IGNORE_ID])
        try:
            return as_ids(stored, path)
        except DatasetError as error:
            # One that stands for all that is unlabelled; more are no ids, but instances or depths.
            hint = ignore_hint(str(deep[0]), f"[{deep[0]}]") if len(deep) == 1 else ""
            raise DatasetError(f"{error}{hint}") from error

    def _palette_hint(self, path: Path) -> str:
        """What else a palette's picture may be: its numbers may be the ids, in a palette of other colours."""
        with suppress(DatasetError):
            self._ids(path)
            if (header := read_header(path.read_bytes())) is not None and header.palette:
                return (
                    "; if the numbers of its palette are the ids, 'rt_seg dataset import png' makes label"
                    " images of the folder"
                )
        return ""


def _is_gray(colors: np.ndarray) -> bool:
    first = colors[..., 0]
    return np.array_equal(first, colors[..., 1]) and np.array_equal(first, colors[..., 2])


def _parse_ignore(ignore: Any) -> tuple[list[int], list[tuple[int, int, int]]]:
    ids: list[int] = []
    colors: list[tuple[int, int, int]] = []
    # Whatever an option may be in YAML: a text is no list of its letters, and `true` is no 1.
    is_one = not isinstance(ignore, Sequence) or isinstance(ignore, str)
    for entry in [ignore] if is_one else ignore:
        values: list[Any] = list(entry) if isinstance(entry, Sequence) else [entry]
        most = MAX_DEEP_ID if len(values) == 1 else 255
        if len(values) not in (1, 3) or not all(type(v) is int and 0 <= v <= most for v in values):
            raise DatasetError(
                f"ignore has {entry!r}; it is a list of ids and [R, G, B], each from 0 to 255 (ids of 16-bit"
                f" labels to {MAX_DEEP_ID})"
            )
        if len(values) == 1:
            ids.append(values[0])
        else:
            colors.append((values[0], values[1], values[2]))
    return ids, colors
