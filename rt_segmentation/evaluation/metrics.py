"""Accuracy of label images, from a confusion matrix that grows with the classes, not with the images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from rt_segmentation.labels import IGNORE_ID, LabelSet


class ConfusionMatrix:
    """Counts of pixels by true (row) and predicted (column) class; pixels of truth 255 are left out.

    A prediction of 255 on a labelled pixel counts as wrong, as with the Cityscapes tools.

    Args:
        num_classes: ids are below it.
        ignored: classes that are counted but evaluated as unlabelled: they have no score, what is predicted
            on their pixels does not matter, and predicting them elsewhere is wrong.
    """

    def __init__(self, num_classes: int, ignored: Collection[int] = ()) -> None:
        self.num_classes = num_classes
        self.ignored = frozenset(ignored)
        # One more column, for predictions that are no class.
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Add label images of the same shape, uint8.

        Raises:
            ValueError: the shapes differ, or the truth has an id that is neither a class nor 255.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}; they must be equal")
        labelled = truth != IGNORE_ID
        rows = truth[labelled].astype(np.int64)
        if rows.size and rows.max() >= self.num_classes:
            raise ValueError(f"truth has id {rows.max()}, there are {self.num_classes} classes")
        columns = np.minimum(predicted[labelled].astype(np.int64), self.num_classes)
        index = rows * (self.num_classes + 1) + columns
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)

    def add(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts, exactly."""
        self.counts += other.counts

    @property
    def labelled(self) -> bool:
        """Whether a pixel of a class that is evaluated was counted; without any, all scores are NaN."""
        return bool(self.counts[self._evaluated()].any())

    def class_iou(self) -> np.ndarray:
        """Intersection over union by class, float64; NaN where a class is neither true nor predicted."""
        hits = np.diagonal(self.counts).astype(np.float64)
        union = self.counts.sum(1) + self.false_positives()
        return _ratio(hits, np.where(self._evaluated(), union, 0))

    def false_positives(self) -> np.ndarray:
        """Pixels of other classes, ignored ones left out, on which a class is predicted, int64."""
        rows = np.where(self._evaluated()[:, None], self.counts[:, :-1], 0)
        return np.asarray(rows.sum(0) - np.diagonal(rows))

    def group_false_positives(self, group: Sequence[int], predicted: Sequence[int]) -> int:
        """Pixels of evaluated classes outside a group that are predicted as one of `predicted`."""
        rows = self._evaluated()
        rows[list(group)] = False
        return int(self.counts[rows][:, list(predicted)].sum())

    def group_iou(self, groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Intersection over union of groups of classes (categories); NaN where a group does not occur.

        Confusions within a group are hits. Ignored classes belong to no group.
        """
        scores = {}
        for name, members in groups.items():
            ids = [i for i in members if i not in self.ignored]
            hits = float(self.counts[np.ix_(ids, ids)].sum())
            union = float(self.counts[ids].sum()) + self.group_false_positives(members, ids)
            scores[name] = hits / union if union else float("nan")
        return scores

    def class_accuracy(self) -> np.ndarray:
        """Share of each class's true pixels that are right (recall), float64; NaN for absent classes."""
        hits, total = np.diagonal(self.counts).astype(np.float64), self.counts.sum(1)
        return _ratio(hits, np.where(self._evaluated(), total, 0))

    def mean_iou(self) -> float:
        """Mean of `class_iou` over the classes that occur; NaN without any."""
        return nan_mean(self.class_iou())

    def class_average(self) -> float:
        """Mean of `class_accuracy` over the classes that occur; NaN without any."""
        return nan_mean(self.class_accuracy())

    def global_average(self) -> float:
        """Share of all labelled pixels that are right; NaN without any."""
        evaluated = self._evaluated()
        total = self.counts[evaluated].sum()
        return float(np.diagonal(self.counts)[evaluated].sum() / total) if total else float("nan")

    def _evaluated(self) -> np.ndarray:
        return np.array([i not in self.ignored for i in range(self.num_classes)], bool)


class ImageDice:
    """Mean over images of the mean Dice coefficient of their classes, unlabelled being one more class.

    So the LinkNet term project scores: 2 |A and B| / (|A| + |B|) of each class that is true or predicted in
    an image. It is no IoU; a model that never predicts 'unlabelled' scores 0 on it where an image has it.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._sum, self._images = 0.0, 0

    def update(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Add an image's labels, uint8 (H, W); ids that are no class are unlabelled."""
        size = self._num_classes + 1
        rows = np.minimum(truth.ravel().astype(np.int64), self._num_classes)
        columns = np.minimum(predicted.ravel(), self._num_classes)
        counts = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
        dice = _ratio(2.0 * np.diagonal(counts), counts.sum(0) + counts.sum(1))
        self._sum += nan_mean(dice)
        self._images += 1

    def value(self) -> float:
        """The mean; NaN without images."""
        return self._sum / self._images if self._images else float("nan")


def categories(labels: LabelSet) -> dict[str, list[int]]:
    """Class ids by category, in the order of their first classes."""
    groups: dict[str, list[int]] = {}
    for c in labels.classes:
        groups.setdefault(c.category, []).append(c.id)
    return groups


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def nan_mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN without any."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")
