"""Cityscapes' official scores: the numbers of cityscapesscripts' evalPixelLevelSemanticLabeling."""

from __future__ import annotations

import numpy as np

from rt_segmentation.evaluation.instances import InstanceScores
from rt_segmentation.evaluation.metrics import ConfusionMatrix, categories, nan_mean
from rt_segmentation.labels import load_label_set

AVERAGE_INSTANCE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Average instance sizes [px] in the training data, as the official tool has them."""

INSTANCE_CATEGORIES = ("human", "vehicle")
"""Categories whose classes all have instances."""


class CityscapesScores:
    """Class and category IoU and iIoU over label ids (0 to 33) of images at full size."""

    def __init__(self) -> None:
        self._labels = load_label_set("cityscapes34")
        evaluated = set(load_label_set("cityscapes19").names)
        ids = {c.name: c.id for c in self._labels.classes}
        self._groups = {name: g for name, g in categories(self._labels).items() if name != "void"}
        self.confusion = ConfusionMatrix(len(ids), [ids[name] for name in ids if name not in evaluated])
        self._instances = InstanceScores(
            {ids[name]: size for name, size in AVERAGE_INSTANCE_SIZES.items()},
            {name: self._groups[name] for name in INSTANCE_CATEGORIES},
        )
        self.has_instances = False

    def update(self, truth: np.ndarray, predicted: np.ndarray, instances: np.ndarray | None) -> None:
        """Add an image: label ids uint8 (H, W) and, where there are any, instance ids uint16 (H, W)."""
        self.confusion.update(truth, predicted)
        if instances is not None:
            self.has_instances = True
            self._instances.update(instances, predicted)

    def class_iou(self) -> dict[str, float]:
        """IoU of the 19 classes by name; NaN where one does not occur."""
        return self._evaluated(self.confusion.class_iou())

    def class_iiou(self) -> dict[str, float]:
        """Instance-weighted IoU of the classes with instances by name; NaN where one does not occur."""
        scores = self._evaluated(self._instances.class_iiou(self.confusion))
        return {name: scores[name] for name in AVERAGE_INSTANCE_SIZES}

    def category_iou(self) -> dict[str, float]:
        """IoU of the seven categories."""
        return self.confusion.group_iou(self._groups)

    def category_iiou(self) -> dict[str, float]:
        """Instance-weighted IoU of the two categories with instances."""
        return self._instances.group_iiou(self.confusion)

    def iiou(self) -> float:
        """Mean of `class_iiou` over the classes that occur."""
        return nan_mean(np.array(list(self.class_iiou().values())))

    def _evaluated(self, scores: np.ndarray) -> dict[str, float]:
        return {
            c.name: float(scores[c.id]) for c in self._labels.classes if c.id not in self.confusion.ignored
        }
