"""Two models on the same frames, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import IGNORE_ID, LabelSet, ids_by_name


@dataclass(frozen=True, eq=False)
class Compared:
    """A frame as both models label it, in the new one's classes.

    Attributes:
        name: of the frame, for people.
        frame: the image.
        truth: class ids, uint8 (H, W), or None.
        old, new: class ids, uint8 (H, W); 255 where the new model has no such class.
        old_ms, new_ms: conversion and inference of the frame [ms].
    """

    name: str
    frame: Frame
    truth: np.ndarray | None
    old: np.ndarray
    new: np.ndarray
    old_ms: float
    new_ms: float

    @property
    def changed(self) -> float:
        """Share of the pixels with another label."""
        return float(np.mean(self.old != self.new))


class Pair:
    """An old model and a new one.

    Args:
        old: its classes may be others: those of the same name are compared.
        new: whose classes count.

    Attributes:
        notes: sentences about classes that only one of them has.

    Raises:
        EvaluationError: they have no class of the same name.
    """

    def __init__(self, old: Segmenter, new: Segmenter) -> None:
        self.old, self.new = old, new
        theirs, ours = old.config.output_label_set, new.config.output_label_set
        self._table = ids_by_name(theirs, ours)
        if not (self._table != IGNORE_ID).any():
            raise EvaluationError(
                f"the old model's classes ({', '.join(theirs.names)}) and the new one's"
                f" ({', '.join(ours.names)}) have no name in common"
            )
        self.notes = _notes(theirs, ours, self._table)
        self._warm: set[tuple[int, int]] = set()
        self._old_first = True

    @property
    def label_set(self) -> LabelSet:
        """The classes that are compared."""
        return self.new.config.output_label_set

    def compare(self, name: str, frame: Frame, truth: np.ndarray | None) -> Compared:
        """Segment a frame with both.

        Raises:
            EngineError: an engine failed.
            ImageError: the truth has another size than the image.
        """
        size = (frame.width, frame.height)
        if size not in self._warm:
            # Engines are built at the first frame of a size.
            self._warm.add(size)
            self.old.segment([frame])
            self.new.segment([frame])
        # In turn, so that neither always finds the other's data in the processor's cache.
        self._old_first = not self._old_first
        order = (self.old, self.new) if self._old_first else (self.new, self.old)
        results = {segmenter: segmenter.segment([frame])[0] for segmenter in order}
        old, new = results[self.old], results[self.new]
        return Compared(
            name,
            frame,
            truth,
            self._table[old.labels],
            new.labels,
            old.preprocess_ms + old.inference_ms,
            new.preprocess_ms + new.inference_ms,
        )


def _notes(theirs: LabelSet, ours: LabelSet, table: np.ndarray) -> list[str]:
    gone = [c.name for c in theirs.classes if table[c.id] == IGNORE_ID]
    reached = set(table.tolist())
    added = [c.name for c in ours.classes if c.id not in reached]
    notes = []
    if gone:
        notes.append(f"the new model has no {', '.join(gone)}: where the old one sees that it is wrong")
    if added:
        notes.append(f"the old model has no {', '.join(added)}: it cannot be right there")
    return notes
