"""A data set whose classes are groups of another one's."""

from __future__ import annotations

import numpy as np

from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.groups import Grouping
from rt_segmentation.labels import IGNORE_ID


class Grouped:
    """A data set in groups of its classes; what is in no group, or was ignored before, is unlabelled.

    Args:
        dataset: the data.
        grouping: of its label set.
    """

    def __init__(self, dataset: SegmentationDataset, grouping: Grouping) -> None:
        self._dataset = dataset
        lookup = grouping.lookup.copy()
        lookup[list(dataset.ignored_ids)] = IGNORE_ID
        self._grouping = Grouping(grouping.label_set, lookup)
        self.label_set = grouping.label_set

    @property
    def ignored_ids(self) -> frozenset[int]:
        """None: they are unlabelled."""
        return frozenset()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        image, labels, name = self._dataset[index]
        return Sample(image, self._grouping.apply(np.ascontiguousarray(labels)), name)
