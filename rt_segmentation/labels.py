"""Label sets: what the ids of a label image mean and which colours they have."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import user_path, write_atomically
from rt_segmentation.resources import share_dir
from rt_segmentation.settings import read_file
from rt_segmentation.text import is_name

IGNORE_ID = 255
"""Id of unlabelled pixels in every label image: left out of losses and metrics."""


class LabelSetError(RtSegmentationError, ValueError):
    """A label set that cannot be found or read; the message names the file and what is wrong in it."""


@dataclass(frozen=True)
class LabelClass:
    """One class: its id in label images, its name, its colour (R, G, B) and the category it belongs to.

    In a set that was read, the category of a class without one is its name.
    """

    id: int
    name: str
    color: tuple[int, int, int]
    category: str = ""


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set; ids are 0, 1, 2, … without gaps."""

    name: str
    classes: tuple[LabelClass, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return tuple(c.name for c in self.classes)

    @property
    def void_ids(self) -> frozenset[int]:
        """Classes of category 'void', which evaluation leaves out as if they were unlabelled."""
        return frozenset(c.id for c in self.classes if c.category == "void")

    def palette(self) -> np.ndarray:
        """Colours by id, uint8 (256, 3) RGB; ids without a class are black."""
        palette = np.zeros((256, 3), np.uint8)
        for c in self.classes:
            palette[c.id] = c.color
        return palette


def label_set_names() -> list[str]:
    """Names of the label sets that come with the package."""
    return sorted(p.stem for p in (share_dir() / "config" / "labels").glob("*.yaml"))


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """Read a label set by its name (`camvid11`) or from a YAML file of the user's.

    Raises:
        LabelSetError: there is none of that name, or the file is not a label set.
    """
    path = user_path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = share_dir() / "config" / "labels" / f"{name_or_path}.yaml"
        if path.name != f"{name_or_path}.yaml" or not os.path.isfile(path):
            raise LabelSetError(
                f"unknown label set {str(name_or_path)!r}; there are {', '.join(label_set_names())},"
                " or give the path of a .yaml file"
            )
    content = read_file(_File, path, "label set", LabelSetError)
    problem = _problem(content.classes)
    if content.name and not is_name(content.name):
        problem = f"its name is {content.name!r}; it must be a text of one line"
    if problem:
        raise LabelSetError(f"label set {path}: {problem}")
    classes = tuple(replace(c, category=c.category or c.name) for c in content.classes)
    return LabelSet(content.name or path.stem, classes)


@dataclass(frozen=True)
class _File:
    """What a file may have; `source` says for people where the classes come from."""

    classes: tuple[LabelClass, ...]
    name: str = ""
    source: str = ""


def _problem(classes: tuple[LabelClass, ...]) -> str | None:
    if not 1 <= len(classes) <= IGNORE_ID:
        return f"it has {len(classes)} classes, 1 to {IGNORE_ID} are possible"
    names = set()
    for index, c in enumerate(classes):
        if not is_name(c.name):
            return f"the name of class {c.id} is {c.name!r}; it must be a text of one line, not empty"
        if c.id != index:
            return f"class '{c.name}': id is {c.id}, not {index}"
        if not all(0 <= value <= 255 for value in c.color):
            return f"class '{c.name}': colours go from 0 to 255"
        if c.name in names:
            return f"it names '{c.name}' twice"
        names.add(c.name)
    return None


def ids_by_name(source: LabelSet, target: LabelSet) -> np.ndarray:
    """The id of each class of a set in another one, by their names, uint8 (256,); 255 where it has none.

    Names that differ in case, spaces, '-' and '_' alone are one, unless two classes of a set share it.
    """
    table = np.full(256, IGNORE_ID, np.uint8)
    exact = {c.name: c.id for c in target.classes}
    loose = _loose_names(target)
    for name, i in _loose_names(source).items():
        table[i] = loose.get(name, IGNORE_ID)
    for c in source.classes:
        table[c.id] = exact.get(c.name, table[c.id])
    return table


def _loose_names(labels: LabelSet) -> dict[str, int]:
    """Ids by simplified names, without those that two classes share."""
    names = [re.sub(r"[\s_-]+", "", name.casefold()) for name in labels.names]
    return {name: i for i, name in enumerate(names) if names.count(name) == 1}


def store_label_set(label_set: str | Path, folder: Path, model: str) -> str:
    """Say what a manifest in the folder calls a label set; a file of the user's is copied beside it.

    The copy has the model's name: label sets of several models may come from files of one name.

    Raises:
        OSError: the file cannot be read, or the copy not be written.
    """
    path = user_path(label_set)
    if path.suffix not in (".yaml", ".yml"):
        return str(label_set)
    target = folder / "labels" / f"{model}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, path.read_bytes())
    return str(target.relative_to(folder))
