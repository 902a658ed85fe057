"""What a run's data were at its start: a run that goes on with others would come to a model of neither."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rt_segmentation.data.dataset import FileDataset, SegmentationDataset
from rt_segmentation.data.selection import frame_names
from rt_segmentation.labels import LabelSet, load_label_set
from rt_segmentation.models import ModelManifest
from rt_segmentation.text import counted
from rt_segmentation.training.data import open_dataset
from rt_segmentation.training.labelled import names_of
from rt_segmentation.training.recipe import Recipe


@dataclass(frozen=True)
class FramesRecord:
    """A data set's frames; where their files lie may change.

    Attributes:
        dataset: its name and split.
        frames: how many.
        sha256: of the frames' names, in their order, and of their image files' sizes: cameras count from 1 at
            every site.
    """

    dataset: str
    frames: int
    sha256: str

    @classmethod
    def of(cls, dataset: str, names: Sequence[str], files: Sequence[Path]) -> FramesRecord:
        """Of frames by their names.

        Args:
            dataset: its name and split.
            names: of the frames.
            files: their images; none where they are not files.
        """
        listed = [os.fsencode(name) for name in names]
        # A file that is gone, or no file, is told when it is read.
        listed += [b"%d" % (path.stat().st_size if path.is_file() else 0) for path in files]
        return cls(dataset, len(names), hashlib.sha256(b"\0".join(listed)).hexdigest())


@dataclass(frozen=True)
class DataRecord:
    """Classes, frames and teachers of a training, as `RunFolder.data` keeps them.

    Attributes:
        classes: a text for each, in the order of the ids.
        train, validation: the data sets.
        teachers: the sha256 of each one's weights.
    """

    classes: tuple[str, ...]
    train: tuple[FramesRecord, ...]
    validation: FramesRecord
    teachers: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe, data_root: Path | None) -> DataRecord:
        """Of a recipe's data as they are now, without teachers; no frame of a folder is read for it.

        Raises:
            DatasetError, LabelSetError: the data or the label set are wrong.
        """
        labels = load_label_set(recipe.label_set)
        train, validation = (
            [_record(names_of([part]), open_dataset(part, data_root, labels)) for part in parts]
            for parts in (recipe.train, [recipe.validation])
        )
        return cls(_described(labels), tuple(train), validation[0])

    def taught(self, teachers: Sequence[ModelManifest]) -> DataRecord:
        """With teachers as they are now; each fold of a recipe has its own."""
        return replace(self, teachers=tuple(teacher.sha256 for teacher in teachers))

    def change(self, now: DataRecord) -> str:
        """What is other than at the start, as the begin of a sentence; '' if nothing is."""
        if len(self.classes) != len(now.classes):
            began, are = counted(len(self.classes), "class", "classes"), len(now.classes)
            return f"it had {began} at its start, and now has {are}"
        for index, (was, text) in enumerate(zip(self.classes, now.classes)):
            if was != text:
                return f"its class {index} was {was} at its start, and now is {text}"
        for before, after in zip((*self.train, self.validation), (*now.train, now.validation)):
            if before.frames != after.frames:
                had = counted(before.frames, "frame")
                return f"its data set {before.dataset} had {had} at its start, and now has {after.frames}"
            if before.sha256 != after.sha256:
                return (
                    f"its data set {before.dataset} has as many frames as at its start, {before.frames}, but"
                    " not the same"
                )
        for index, (teacher, is_now) in enumerate(zip(self.teachers, now.teachers), 1):
            if teacher != is_now:
                return f"its teacher {index} of {len(self.teachers)} has other weights than at its start"
        return ""


def _record(name: str, dataset: SegmentationDataset) -> FramesRecord:
    files = [pair.image for pair in dataset.pairs] if isinstance(dataset, FileDataset) else []
    return FramesRecord.of(name, frame_names(dataset), files)


def _described(labels: LabelSet) -> tuple[str, ...]:
    return tuple(f"'{c.name}' (category {c.category}, colour {list(c.color)})" for c in labels.classes)
