"""Anybody's labelled images: folders of images and of label pictures, and a label set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.data.dataset import (
    ColorMap,
    DatasetError,
    FileDataset,
    IdMap,
    as_ids,
    pair_files,
    read_stored,
)
from rt_segmentation.data.split_lists import list_file, read_list
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.labels import IGNORE_ID, LabelSet, load_label_set
from rt_segmentation.text import printable

# (images, labels) below the root; without a split the part before or after it falls away.
LAYOUTS = (("{split}/images", "{split}/labels"), ("images/{split}", "labels/{split}"))


class Folder(FileDataset):
    """Images, of any suffix in `IMAGE_SUFFIXES`, with label PNGs of the same names.

    A label PNG is gray with the label set's ids, at any depth, or coloured (also with a palette) in the label
    set's colours; both may occur. 255 and what `ignore` names are unlabelled.

    Args:
        root: has `SPLIT/images` and `SPLIT/labels`, or `images/SPLIT` and `labels/SPLIT`; or a list
            `SPLIT.txt`, as `rt_seg dataset split` writes it, which goes first.
        split: '' where the data are not split.
        label_set: a name, the path of a YAML file, or the set itself.
        ignore: more ids, and colours [R, G, B], that mean unlabelled; or one id.
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
        self._ids = IdMap({c.id: c.id for c in labels.classes}, (IGNORE_ID, *ignored), ignorable=True)
        colors: dict[tuple[int, int, int], int] = {}
        self._ambiguous = ""
        for c in labels.classes:
            other = labels.names[colors.setdefault(c.color, c.id)]
            if other != c.name and not self._ambiguous:
                self._ambiguous = f"'{other}' and '{c.name}' of {labels.name} have one colour, {c.color}"
        colors.update(dict.fromkeys(ignored_colors, IGNORE_ID))
        self._colors = ColorMap(colors, ignorable=True)

    def __call__(self, path: Path) -> np.ndarray:
        stored = read_stored(path)
        if stored.ndim == 2:
            return self._ids.convert(as_ids(stored, path), path)
        if self._ambiguous:
            raise DatasetError(f"{path} is coloured, but {self._ambiguous}; give gray labels of ids instead")
        return self._colors.convert(stored, path)


def _parse_ignore(ignore: Any) -> tuple[list[int], list[tuple[int, int, int]]]:
    ids: list[int] = []
    colors: list[tuple[int, int, int]] = []
    # Whatever an option may be in YAML: a text is no list of its letters, and `true` is no 1.
    is_one = not isinstance(ignore, Sequence) or isinstance(ignore, str)
    for entry in [ignore] if is_one else ignore:
        values: list[Any] = list(entry) if isinstance(entry, Sequence) else [entry]
        if len(values) not in (1, 3) or not all(type(v) is int and 0 <= v <= 255 for v in values):
            raise DatasetError(f"ignore has {entry!r}; it is a list of ids and [R, G, B], each from 0 to 255")
        if len(values) == 1:
            ids.append(values[0])
        else:
            colors.append((values[0], values[1], values[2]))
    return ids, colors
