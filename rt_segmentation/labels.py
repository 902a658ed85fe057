"""Label sets: what the ids of a label image mean and which colours they have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.resources import share_dir

IGNORE_ID = 255
"""Id of unlabelled pixels in every label image: left out of losses and metrics."""


class LabelSetError(RtSegmentationError, ValueError):
    """A label set that cannot be found or read; the message names the file and what is wrong in it."""


@dataclass(frozen=True)
class LabelClass:
    """One class: its id in label images, its name, its colour (R, G, B) and the category it belongs to."""

    id: int
    name: str
    color: tuple[int, int, int]
    category: str


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
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = share_dir() / "config" / "labels" / f"{name_or_path}.yaml"
        if path.name != f"{name_or_path}.yaml" or not path.is_file():
            raise LabelSetError(
                f"unknown label set '{name_or_path}'; there are {', '.join(label_set_names())},"
                " or give the path of a .yaml file"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LabelSetError(f"label set {path} cannot be read: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise LabelSetError(f"label set {path} has no list 'classes'")
    classes = tuple(_label_class(entry, index, path) for index, entry in enumerate(content["classes"]))
    names = [c.name for c in classes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not classes or len(classes) > IGNORE_ID or twice is not None:
        wrong = (
            f"names '{twice}' twice"
            if twice
            else f"has {len(classes)} classes, 1 to {IGNORE_ID} are possible"
        )
        raise LabelSetError(f"label set {path} {wrong}")
    return LabelSet(str(content.get("name", path.stem)), classes)


def _label_class(entry: Any, index: int, path: Path) -> LabelClass:
    try:
        label_class = LabelClass(
            int(entry["id"]),
            str(entry["name"]),
            (int(entry["color"][0]), int(entry["color"][1]), int(entry["color"][2])),
            str(entry.get("category", entry["name"])),
        )
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise LabelSetError(
            f"label set {path}, class {index}: wants id, name and color: [R, G, B] ({error!r})"
        ) from error
    if label_class.id != index:
        raise LabelSetError(
            f"label set {path}, class '{label_class.name}': id is {label_class.id}, not {index}"
        )
    if not all(0 <= value <= 255 for value in label_class.color):
        raise LabelSetError(f"label set {path}, class '{label_class.name}': colours go from 0 to 255")
    return label_class
