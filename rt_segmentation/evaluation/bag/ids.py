"""What the ids of a bag's ground truth mean, and what they become in the classes of the models."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import cv2
import numpy as np

from rt_segmentation.data.dataset import name_some
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.groups import Grouping
from rt_segmentation.labels import IGNORE_ID, LabelSet, ids_by_name

REAL_SHARE = 0.001
"""Of the pixels; fewer of them with ids of no class are damage, more are another label set."""


@dataclass(frozen=True, eq=False)
class TruthClasses:
    """The classes of a ground truth, beside those that are evaluated.

    Attributes:
        label_set: what stored ids mean.
        becomes: what its classes become; None where they are the ones that are evaluated.
        unscored: evaluated classes that the ground truth does not have: nothing can be right there.
        notes: sentences about classes that only one of both has.
    """

    label_set: LabelSet
    becomes: Grouping | None = None
    unscored: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def id_table(self, void_ids: Collection[int]) -> IdTable:
        """What stored ids are in the evaluation; `void_ids` are unlabelled besides the label set's own."""
        void_ids = self.label_set.void_ids.union(void_ids)
        return IdTable(len(self.label_set.classes), void_ids, self.becomes)


def truth_by_name(truth: LabelSet, evaluated: LabelSet) -> TruthClasses:
    """Find the classes of a ground truth among those that are evaluated, see `ids_by_name`.

    Raises:
        EvaluationError: they have no name in common.
    """
    if truth.names == evaluated.names:
        return TruthClasses(truth)
    table = ids_by_name(truth, evaluated)
    reached = frozenset(table.tolist()) - {IGNORE_ID}
    if not reached:
        raise EvaluationError(
            f"the classes of the ground truth ({', '.join(truth.names)}) and the model's"
            f" ({', '.join(evaluated.names)}) have no name in common"
        )
    left = [c.name for c in truth.classes if table[c.id] == IGNORE_ID and c.id not in truth.void_ids]
    unscored = [c for c in evaluated.classes if c.id not in reached and c.id not in evaluated.void_ids]
    notes = []
    if left:
        notes.append(f"the model has no {', '.join(left)}: unlabelled in the ground truth")
    if unscored:
        names = ", ".join(c.name for c in unscored)
        notes.append(f"the ground truth has no {names}: without a score, and wrong on other classes")
    return TruthClasses(truth, Grouping(evaluated, table), frozenset(c.id for c in unscored), tuple(notes))


@dataclass
class UnknownIds:
    """Counts pixels of a ground truth whose ids are no class.

    Attributes:
        pixels: of the ground truth.
        by_id: how many of them have each such id; by text, as JSON has it.
    """

    pixels: int = 0
    by_id: dict[str, int] = field(default_factory=dict)

    def sentence(self, num_classes: int, truth_classes: str = "") -> str:
        """What to do about them where they are many, or ''; the first id after the classes may mean void.

        Args:
            num_classes: ids below it are classes.
            truth_classes: the label set that the user says the ground truth's ids are of, or ''.
        """
        many = REAL_SHARE * self.pixels
        if sum(self.by_id.values()) - self.by_id.get(str(num_classes), 0) <= many:
            return ""
        share = sum(self.by_id.values()) / self.pixels
        ids = name_some(sorted(self.by_id, key=int))
        known = "0 is one" if num_classes == 1 else f"0 to {num_classes - 1} are"
        other = (
            f"give --truth-classes another label set than {truth_classes}, or name"
            if truth_classes
            else "name the ground truth's label set with --truth-classes, or"
        )
        return (
            f"{share:.1%} of the ground truth's pixels have ids that are no class ({known}), and count as"
            f" unlabelled: {ids}; {other} ids that mean unlabelled with --void-id"
        )


class IdTable:
    """Makes class ids of stored ids: what is no class is unlabelled (255).

    Args:
        num_classes: ids below it are classes.
        void_ids: ids that are unlabelled all the same.
        groups: what the classes become.

    Attributes:
        num_classes: as given.
    """

    def __init__(
        self, num_classes: int, void_ids: Collection[int] = (), groups: Grouping | None = None
    ) -> None:
        self.num_classes = num_classes
        self._table = np.full(256, IGNORE_ID, np.uint8)
        ids = np.arange(256, dtype=np.uint8) if groups is None else groups.lookup
        self._table[:num_classes] = ids[:num_classes]
        self._table[list(void_ids)] = IGNORE_ID
        self._unknown = np.ones(256, np.uint8)
        self._unknown[[*range(num_classes), *void_ids, IGNORE_ID]] = 0

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Class ids, uint8 (H, W)."""
        return np.asarray(cv2.LUT(ids, self._table))

    def count_unknown(self, ids: np.ndarray, into: UnknownIds) -> None:
        """Count stored ids, uint8 (H, W), that are neither a class nor said to be unlabelled."""
        into.pixels += ids.size
        unknown = cv2.LUT(ids, self._unknown)
        if not cv2.countNonZero(unknown):
            return
        for value, count in zip(*np.unique(ids[unknown != 0], return_counts=True)):
            into.by_id[str(value)] = into.by_id.get(str(value), 0) + int(count)
