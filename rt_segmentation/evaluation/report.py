"""All scores of a model on a data set, gathered frame by frame."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rt_segmentation.data.cityscapes import Cityscapes, label_ids_by_class
from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.evaluation.cityscapes import CityscapesScores
from rt_segmentation.evaluation.metrics import ConfusionMatrix, ImageDice, categories, nan_mean
from rt_segmentation.evaluation.reliability import Reliability
from rt_segmentation.labels import IGNORE_ID


@dataclass(frozen=True)
class Scores:
    """Fractions; NaN for what does not occur, None for what is not measured on such data.

    Attributes:
        frames: how many.
        mean_iou, class_average, global_average, image_dice: of the evaluated classes.
        class_iou, class_accuracy: by the class's name.
        category_iou, mean_category_iou: of groups of classes; None where each class is one.
        iiou, class_iiou, category_iiou, mean_category_iiou: Cityscapes', by instances.
        calibration_error: of the confidence.
        confusion_matrix: pixels, by the truth in rows and the prediction in columns.
    """

    frames: int
    mean_iou: float
    class_average: float
    global_average: float
    image_dice: float
    class_iou: dict[str, float]
    class_accuracy: dict[str, float]
    category_iou: dict[str, float] | None
    mean_category_iou: float | None
    iiou: float | None
    class_iiou: dict[str, float] | None
    category_iiou: dict[str, float] | None
    mean_category_iiou: float | None
    calibration_error: float | None
    confusion_matrix: list[list[int]]

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types, without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


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

    @property
    def measured(self) -> bool:
        """Whether a frame had a labelled pixel of a class that is evaluated."""
        return self.confusion.labelled

    def result(self) -> Scores:
        """All scores so far."""
        confusion, names = self.confusion, self._labels.names
        evaluated = [i for i in range(len(names)) if i not in self._ignored]
        class_iou, accuracy = confusion.class_iou(), confusion.class_accuracy()
        groups = categories(self._labels)
        groups = {name: ids for name, ids in groups.items() if set(ids) & set(evaluated)}
        category_iou = confusion.group_iou(groups) if len(groups) < len(evaluated) else None
        official = self._official if self._official is not None and self._official.has_instances else None
        category_iiou = None if official is None else official.category_iiou()
        return Scores(
            frames=len(self.frame_scores),
            mean_iou=confusion.mean_iou(),
            class_average=confusion.class_average(),
            global_average=confusion.global_average(),
            image_dice=self._dice.value(),
            class_iou={names[i]: float(class_iou[i]) for i in evaluated},
            class_accuracy={names[i]: float(accuracy[i]) for i in evaluated},
            category_iou=category_iou,
            mean_category_iou=_mean(category_iou),
            iiou=None if official is None else official.iiou(),
            class_iiou=None if official is None else official.class_iiou(),
            category_iiou=category_iiou,
            mean_category_iiou=_mean(category_iiou),
            calibration_error=self._reliability.error() if self._has_confidence else None,
            confusion_matrix=confusion.counts.tolist(),
        )

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


def _mean(scores: dict[str, float] | None) -> float | None:
    return None if scores is None else nan_mean(np.array(list(scores.values())))
