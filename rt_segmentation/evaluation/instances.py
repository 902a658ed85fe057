"""Instance-weighted IoU (iIoU) of label images: a distant car counts as much as a near one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rt_segmentation.data.cityscapes import INSTANCE_FACTOR
from rt_segmentation.evaluation.metrics import ConfusionMatrix

IDS = 66
"""Class ids that a 16-bit instance id can have."""


class InstanceScores:
    """Sums for iIoU (Cordts et al., 2016, Section 4.1).

    The pixels of an instance weigh the average instance size of its class over its own size; false positives
    have no instance and weigh one. Memory grows with the classes alone.

    Args:
        average_sizes: average instance size [px] by class id; other classes have no score.
        groups: class ids of each category whose classes all have instances.
    """

    def __init__(self, average_sizes: Mapping[int, float], groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = {name: list(ids) for name, ids in groups.items()}
        self._average = np.zeros(IDS)
        for class_id, size in average_sizes.items():
            self._average[class_id] = size
        # Weighted pixels by class id: right, wrong, and right as for the category.
        self.hits, self.misses, self.group_hits = np.zeros((3, IDS))

    def update(self, instances: np.ndarray, predicted: np.ndarray) -> None:
        """Add an image.

        Args:
            instances: uint16 (H, W), class id x 1000 + number, or below 1000 without instance.
            predicted: class ids, uint8 (H, W).

        Raises:
            ValueError: the shapes differ.
        """
        if instances.shape != predicted.shape:
            raise ValueError(f"instances are {instances.shape}, prediction {predicted.shape}; not equal")
        # The official tool leaves out instance 0 of label id 1 too, which is no instance.
        inside = instances > INSTANCE_FACTOR
        found, index, sizes = np.unique(instances[inside], return_inverse=True, return_counts=True)
        class_ids = (found // INSTANCE_FACTOR).astype(np.int64)
        given = predicted[inside].astype(np.int64)
        wanted = class_ids[index]
        weights = self._average[class_ids] / sizes
        hits = np.bincount(index, given == wanted, minlength=len(found)) * weights
        np.add.at(self.hits, class_ids, hits)
        np.add.at(self.misses, class_ids, sizes * weights - hits)
        for ids in self._groups.values():
            in_group = np.isin(given, ids) & np.isin(wanted, ids)
            group_hits = np.bincount(index, in_group, minlength=len(found)) * weights
            np.add.at(self.group_hits, class_ids, group_hits)

    def class_iiou(self, confusion: ConfusionMatrix) -> np.ndarray:
        """Compute iIoU by class id, float64 (C,); NaN for classes that do not occur or have no instances.

        Args:
            confusion: of the same images, by the same ids; gives the false positives.
        """
        classes = confusion.num_classes
        hits = self.hits[:classes]
        union = hits + self.misses[:classes] + confusion.false_positives()
        scores = np.full(classes, np.nan)
        np.divide(hits, union, out=scores, where=(union > 0) & (self._average[:classes] > 0))
        return scores

    def group_iiou(self, confusion: ConfusionMatrix) -> dict[str, float]:
        """Compute iIoU by category; NaN where one does not occur. `confusion` is as for `class_iiou`."""
        scores = {}
        for name, ids in self._groups.items():
            hits = float(self.group_hits[ids].sum())
            all_pixels = float((self.hits + self.misses)[ids].sum())
            union = all_pixels + confusion.group_false_positives(ids, ids)
            scores[name] = hits / union if union else float("nan")
        return scores
