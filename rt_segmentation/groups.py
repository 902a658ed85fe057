"""Groups of classes: the few that a robot tells apart, made of a model's many."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import user_path
from rt_segmentation.labels import (
    IGNORE_ID,
    LabelClass,
    LabelSet,
    label_set_names,
    load_label_set,
)
from rt_segmentation.resources import share_dir
from rt_segmentation.settings import read_mapping
from rt_segmentation.text import is_name, one_line, printable

FOLDER = "groups"


class GroupsError(RtSegmentationError, ValueError):
    """Groups that cannot be found, read or made of a label set; the message names the file."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups made of one label set's classes.

    Attributes:
        label_set: the groups as classes; their ids are 0, 1, 2, … in the file's order.
        lookup: group id by class id, uint8 (256,); 255 for classes of no group and ids without a class.
    """

    label_set: LabelSet
    lookup: np.ndarray

    def apply(self, labels: np.ndarray) -> np.ndarray:
        """Group ids of a label image, uint8 (H, W), as a new one."""
        return np.asarray(cv2.LUT(labels, self.lookup))


@dataclass(frozen=True)
class Group:
    """A group as its file has it; without a color it gets that of its first class."""

    name: str
    classes: tuple[str, ...]
    color: tuple[int, int, int] | None


@dataclass(frozen=True)
class Groups:
    """Groups of classes by name.

    One file serves several label sets: of a group's classes those count that the label set at hand has.

    Attributes:
        name: as the file gives it, or the file's stem.
        groups: in the order of their ids.
        path: where they were read.
    """

    name: str
    groups: tuple[Group, ...]
    path: Path

    def of(self, label_set: LabelSet) -> Grouping:
        """Make the groups of a label set's classes.

        Raises:
            GroupsError: a group has none of its classes, or names a class that neither it nor a label set of
                the package has.
        """
        lookup = np.full(256, IGNORE_ID, np.uint8)
        classes = []
        for number, group in enumerate(self.groups):
            members = [c for name in group.classes for c in label_set.classes if c.name == name]
            self._check_names(group, label_set)
            if not members:
                raise GroupsError(
                    f"groups {self.path}: '{group.name}' has no class of label set '{label_set.name}', which"
                    f" has {', '.join(label_set.names)}"
                )
            lookup[[c.id for c in members]] = number
            classes.append(LabelClass(number, group.name, group.color or members[0].color, group.name))
        return Grouping(LabelSet(f"{label_set.name}/{self.name}", tuple(classes)), lookup)

    def _check_names(self, group: Group, label_set: LabelSet) -> None:
        for name in group.classes:
            if name not in label_set.names and name not in _known_classes():
                near = difflib.get_close_matches(name, [*label_set.names, *sorted(_known_classes())], 1)
                raise GroupsError(
                    f"groups {self.path}: '{group.name}' names the class '{name}', which label set"
                    f" '{label_set.name}' does not have; "
                    + (f"did you mean '{near[0]}'?" if near else f"it has {', '.join(label_set.names)}")
                )


@cache
def _known_classes() -> frozenset[str]:
    """Names of all classes of the label sets that come with the package."""
    return frozenset(name for s in label_set_names() for name in load_label_set(s).names)


def is_id(entry: str) -> bool:
    """Whether one of several classes is given by its id, and not by a name."""
    return entry.isascii() and entry.isdigit()


def ids_of(names: Iterable[str], classes: Mapping[int, str], groups: Groups | None) -> frozenset[int]:
    """The ids of classes that are named one by one, or by a group of theirs, in capitals or not; or ids.

    A mask that has groups already has their names for its classes'.

    Args:
        names: of classes or groups; a number is an id.
        classes: the names of the mask's classes by id.
        groups: by which the names may go.

    Raises:
        GroupsError: a name is neither a class's nor a group's, or the mask has no class of a group; or an id
            is none of a mask's.
    """
    own: dict[str, set[int]] = {}
    for number, class_name in classes.items():
        own.setdefault(class_name.casefold(), set()).add(number)
    grouped = {group.name.casefold(): group for group in groups.groups} if groups is not None else {}
    found: set[int] = set()
    for name in names:
        if is_id(name):
            if int(name) >= IGNORE_ID:
                raise GroupsError(f"'{name}' is no class's id, they go from 0 to {IGNORE_ID - 1}")
            found.add(int(name))
            continue
        if name.casefold() in own:
            found |= own[name.casefold()]
            continue
        has = f"the mask has {', '.join(classes.values()) or 'none'}"
        group = grouped.get(name.casefold())
        if group is None:
            known = (
                f"groups '{groups.name}' have {', '.join(g.name for g in groups.groups)}" if groups else ""
            )
            raise GroupsError(
                f"'{name}' is neither a class nor a group: {'; '.join(filter(None, (has, known)))}"
            )
        members = [number for number, class_name in classes.items() if class_name in group.classes]
        if not members:
            raise GroupsError(f"the group '{group.name}' has no class of the mask's: {has}")
        found.update(members)
    return frozenset(found)


def groups_names() -> list[str]:
    """Names of the groups that come with the package."""
    return sorted(p.stem for p in (share_dir() / "config" / "labels" / FOLDER).glob("*.yaml"))


def load_groups(name_or_path: str | Path) -> Groups:
    """Read groups by their name (`driving`) or from a YAML file of the user's.

    The file has a mapping ``groups`` from each group's name to a list of class names, or to a mapping with
    ``classes`` and ``color: [R, G, B]``. It may have a ``name``; otherwise it has the file's. Names are texts
    of one line.

    Raises:
        GroupsError: there are none of that name, or the file does not describe groups.
    """
    path = user_path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = share_dir() / "config" / "labels" / FOLDER / f"{name_or_path}.yaml"
        if path.name != f"{name_or_path}.yaml" or not os.path.isfile(path):
            raise GroupsError(
                f"unknown groups {str(name_or_path)!r}; there are {', '.join(groups_names())},"
                " or give the path of a .yaml file"
            )
    content = read_mapping(path, "groups", GroupsError)
    entries = content.get("groups")
    if not isinstance(entries, dict) or not 1 <= len(entries) <= IGNORE_ID:
        raise GroupsError(f"groups {path}: 'groups' must map 1 to {IGNORE_ID} names to lists of classes")
    if unknown := sorted(set(map(str, content)) - {"name", "groups"}):
        raise GroupsError(f"groups {path}: unknown key {unknown[0]!r}; there are name, groups")
    name = content.get("name", one_line(printable(path.stem)))
    _check_name("its name", name, path)
    groups = tuple(_group(group, entry, path) for group, entry in entries.items())
    owner: dict[str, str] = {}
    for group in groups:
        for member in group.classes:
            if owner.setdefault(member, group.name) != group.name:
                raise GroupsError(
                    f"groups {path}: class '{member}' is in '{owner[member]}' and in '{group.name}'; it can"
                    " be in one group"
                )
    return Groups(name, groups, path)


def grouping(name_or_path: str | Path, label_set: LabelSet) -> Grouping | None:
    """Groups of a label set's classes as settings name them; None for '', the classes themselves.

    Raises:
        GroupsError: see `load_groups` and `Groups.of`.
    """
    return load_groups(name_or_path).of(label_set) if str(name_or_path) else None


def load_names(name_or_path: str) -> LabelSet:
    """What the ids of masks mean: a label set, or groups of its classes after a slash, as `camvid11/driving`.

    Raises:
        LabelSetError, GroupsError: there are none of that name.
    """
    name, _, groups = name_or_path.partition("/")
    if groups and name in label_set_names():
        return load_groups(groups).of(load_label_set(name)).label_set
    return load_label_set(name_or_path)


def _check_name(what: str, name: Any, path: Path) -> None:
    # YAML takes an unquoted yes for True, and 007 for 7.
    if not isinstance(name, str):
        raise GroupsError(f"groups {path}: {what} is {name!r}; it must be a text: put it in quotes")
    if not is_name(name):
        raise GroupsError(f"groups {path}: {what} is {name!r}; it must be a text of one line, not empty")


def _group(name: Any, entry: Any, path: Path) -> Group:
    _check_name("a group's name", name, path)
    classes, color = entry, None
    if isinstance(entry, Mapping):
        if unknown := sorted(set(map(str, entry)) - {"classes", "color"}):
            raise GroupsError(
                f"groups {path}: '{name}' has the key '{unknown[0]}'; it can have classes, color"
            )
        classes, color = entry.get("classes"), entry.get("color")
    if not isinstance(classes, list) or not classes or not all(isinstance(c, str) for c in classes):
        raise GroupsError(f"groups {path}: '{name}' must be a list of class names, it is {classes!r}")
    if color is None:
        return Group(name, tuple(classes), None)
    is_color = isinstance(color, list) and len(color) == 3
    if not is_color or not all(type(v) is int and 0 <= v <= 255 for v in color):
        raise GroupsError(
            f"groups {path}: the color of '{name}' is {color!r}; it must be [R, G, B], 0 to 255"
        )
    return Group(name, tuple(classes), (color[0], color[1], color[2]))
