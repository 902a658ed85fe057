"""All scores of a model on a data set, gathered frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from rt_segmentation.data.cityscapes import Cityscapes, label_ids_by_class
from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.evaluation.cityscapes import CityscapesScores
from rt_segmentation.evaluation.metrics import ConfusionMatrix, ImageDice, categories, nan_mean
from rt_segmentation.evaluation.reliability import Reliability
from rt_segmentation.labels import IGNORE_ID


class Report:
    """Scores that are right after each frame; memory grows with the classes, and by a number a frame.

    Attributes:
        confusion: of all frames, by the data set's classes.
        frame_scores: mean IoU of each frame; NaN for one without labels.
    """

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset
        self._labels = dataset.label_set
        self._ignored = dataset.ignored_ids
        self.confusion = ConfusionMatrix(len(self._labels.classes), self._ignored)
        self._dice = ImageDice(len(self._labels.classes))
        self._reliability = Reliability()
        self._has_confidence = False
        self.frame_scores: list[float] = []
        # Categories are no labels that could be converted to ids.
        self._official: CityscapesScores | None = None
        if isinstance(dataset, Cityscapes) and self._labels.name != "cityscapes_categories7":
            self._official = CityscapesScores()
            self._label_ids = label_ids_by_class(self._labels)
            self._has_instances = dataset.has_instances

    def add(self, sample: Sample, predicted: np.ndarray, confidence: np.ndarray | None = None) -> None:
        """Add the data set's next frame with the prediction for it, and its confidence, uint8 (H, W)."""
        frame = ConfusionMatrix(self.confusion.num_classes, self._ignored)
        frame.update(sample.labels, predicted)
        self.confusion.add(frame)
        self._dice.update(sample.labels, predicted)
        if confidence is not None:
            self._has_confidence = True
            truth = np.where(np.isin(sample.labels, list(self._ignored)), IGNORE_ID, sample.labels)
            self._reliability.update(confidence, predicted, truth.astype(np.uint8))
        if self._official is not None and isinstance(self._dataset, Cityscapes):
            instances = self._dataset.instances(len(self.frame_scores)) if self._has_instances else None
            self._official.update(self._label_ids[sample.labels], self._label_ids[predicted], instances)
        self.frame_scores.append(frame.mean_iou())

    def result(self) -> dict[str, Any]:
        """Scores by name, as fractions; NaN for what does not occur."""
        confusion, names = self.confusion, self._labels.names
        evaluated = [i for i in range(len(names)) if i not in self._ignored]
        class_iou, accuracy = confusion.class_iou(), confusion.class_accuracy()
        groups = categories(self._labels)
        groups = {name: ids for name, ids in groups.items() if set(ids) & set(evaluated)}
        result: dict[str, Any] = {
            "frames": len(self.frame_scores),
            "mean_iou": confusion.mean_iou(),
            "class_average": confusion.class_average(),
            "global_average": confusion.global_average(),
            "image_dice": self._dice.value(),
            "class_iou": {names[i]: float(class_iou[i]) for i in evaluated},
            "class_accuracy": {names[i]: float(accuracy[i]) for i in evaluated},
        }
        if len(groups) < len(evaluated):
            result["category_iou"] = confusion.group_iou(groups)
            result["mean_category_iou"] = nan_mean(np.array(list(result["category_iou"].values())))
        if self._official is not None and self._official.has_instances:
            result["iiou"] = self._official.iiou()
            result["class_iiou"] = self._official.class_iiou()
            result["category_iiou"] = self._official.category_iiou()
            result["mean_category_iiou"] = nan_mean(np.array(list(result["category_iiou"].values())))
        if self._has_confidence:
            result["calibration_error"] = self._reliability.error()
        result["confusion_matrix"] = confusion.counts.tolist()
        return result

    def frames_to_show(self, count: int) -> dict[str, list[int]]:
        """Indices of the best, the median and the worst frames, `count` of each at most."""
        scored = [i for i, score in enumerate(self.frame_scores) if not np.isnan(score)]
        order = sorted(scored, key=lambda i: self.frame_scores[i])
        middle = max((len(order) - count) // 2, 0)
        return {
            "best": order[::-1][:count],
            "median": order[middle : middle + count],
            "worst": order[:count],
        }
