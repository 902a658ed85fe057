"""Frames of data sets chosen by their names, as groups that a training leaves out one at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rt_segmentation.data.dataset import DatasetError, FileDataset, Sample, SegmentationDataset
from rt_segmentation.data.street_dataset import Street

FOLDER_NAME = re.compile(r"[\w.-]*\w")


class Selection:
    """Some frames of one or more data sets of the same classes, as a data set.

    Args:
        frames: (data set, index) of each; not empty.
    """

    def __init__(self, frames: Sequence[tuple[SegmentationDataset, int]]) -> None:
        self._frames = frames
        self.label_set = frames[0][0].label_set
        self.ignored_ids = frames[0][0].ignored_ids

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        dataset, number = self._frames[index]
        return dataset[number]


def frame_names(dataset: SegmentationDataset) -> list[str]:
    """The frames' names, without reading the frames where the data set knows them."""
    if isinstance(dataset, (FileDataset, Street)):
        return dataset.names()
    return [dataset[index].name for index in range(len(dataset))]


def group_of(pattern: re.Pattern[str], name: str) -> str | None:
    """The group that a frame belongs to: what the pattern's first group matches, None where nothing matches.

    A pattern without a group gives what it matches as a whole.

    Raises:
        DatasetError: the group's name cannot be a folder's.
    """
    match = pattern.search(name)
    if match is None:
        return None
    group = match[1] if pattern.groups else match[0]
    if not FOLDER_NAME.fullmatch(group or ""):
        raise DatasetError(
            f"pattern '{pattern.pattern}' makes the group '{group or ''}' of the frame {name}; a group is"
            " made of letters, digits, '_', '-' and '.'"
        )
    return group


def groups_of(parts: Sequence[SegmentationDataset], pattern: re.Pattern[str]) -> dict[str, int]:
    """How many frames each group has, by the group's name, sorted.

    Raises:
        DatasetError: no frame's name matches, or all that do are in one group.
    """
    counts: dict[str, int] = {}
    names = [name for part in parts for name in frame_names(part)]
    for name in names:
        group = group_of(pattern, name)
        if group is not None:
            counts[group] = counts.get(group, 0) + 1
    if not counts:
        raise DatasetError(
            f"no frame's name matches the pattern '{pattern.pattern}' of the folds; there are {len(names)}"
            f" frames, as {names[0]}"
        )
    if len(counts) == 1:
        raise DatasetError(
            f"all frames that match the pattern '{pattern.pattern}' of the folds are in one group,"
            f" '{next(iter(counts))}'; a pattern must tell two groups or more apart"
        )
    return dict(sorted(counts.items()))


def leave_out(
    parts: Sequence[SegmentationDataset], pattern: re.Pattern[str], group: str
) -> tuple[list[SegmentationDataset], Selection]:
    """The data sets without a group's frames, and these.

    Frames whose names do not match the pattern belong to no group, and stay in the data sets.

    Raises:
        DatasetError: there is no such group, or nothing is left without it.
    """
    kept: list[SegmentationDataset] = []
    left: list[tuple[SegmentationDataset, int]] = []
    for part in parts:
        of_group = [group_of(pattern, name) == group for name in frame_names(part)]
        left += [(part, index) for index, is_left in enumerate(of_group) if is_left]
        if not any(of_group):
            kept.append(part)
        elif not all(of_group):
            kept.append(Selection([(part, index) for index, is_left in enumerate(of_group) if not is_left]))
    if not left:
        known = ", ".join(groups_of(parts, pattern))
        raise DatasetError(f"there is no fold '{group}'; the pattern '{pattern.pattern}' makes {known}")
    if not kept:
        raise DatasetError(f"without the fold '{group}' there is no frame to train on")
    return kept, Selection(left)
