"""A model's accuracy on a data set, by the same segmenter that the node runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rt_segmentation.data.dataset import Sample, SegmentationDataset
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmentation, Segmenter
from rt_segmentation.labels import LabelSet


class EvaluationError(RtSegmentationError, ValueError):
    """A model and a data set that do not go together; the message says in what."""


def evaluate(segmenter: Segmenter, dataset: SegmentationDataset) -> Iterator[tuple[str, ConfusionMatrix]]:
    """Segment every frame at its own size and count its pixels.

    Yields:
        Each frame's name and its own confusion matrix, in the data set's order; add them up for the whole.

    Raises:
        EvaluationError: model and data set have different classes.
    """
    num_classes = len(dataset.label_set.classes)
    for sample, labels in predict(segmenter, dataset):
        confusion = ConfusionMatrix(num_classes)
        confusion.update(sample.labels, labels)
        yield sample.name, confusion


def predict(segmenter: Segmenter, dataset: SegmentationDataset) -> Iterator[tuple[Sample, np.ndarray]]:
    """Segment every frame at its own size.

    Yields:
        Each frame and its predicted labels, uint8 (H, W), in the data set's order.

    Raises:
        EvaluationError: model and data set have different classes.
    """
    for sample, result in segment_all(segmenter, dataset):
        yield sample, result.labels


def segment_all(
    segmenter: Segmenter, dataset: SegmentationDataset, confidence: bool = False
) -> Iterator[tuple[Sample, Segmentation]]:
    """As `predict`, with all that the segmenter gives, and the confidence if it is asked for."""
    check_labels(segmenter.config.output_label_set, dataset.label_set)
    for index in range(len(dataset)):
        sample = dataset[index]
        (result,) = segmenter.segment([Frame.from_rgb(sample.image)], confidence)
        yield sample, result


def segment_image(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    """Segment an image, uint8 (H, W, 3) RGB, at its own size; labels uint8 (H, W)."""
    (result,) = segmenter.segment([Frame.from_rgb(image)])
    return result.labels


def check_labels(model: LabelSet, dataset: LabelSet) -> None:
    """Refuse data of other classes than a model's.

    Raises:
        EvaluationError: they differ; the message says in what.
    """
    if model.names != dataset.names:
        differing = next(
            (
                f"class {i} is {a} and {b}"
                for i, (a, b) in enumerate(zip(model.names, dataset.names))
                if a != b
            ),
            f"{len(model.names)} and {len(dataset.names)} classes",
        )
        raise EvaluationError(
            f"the model's label set {model.name} is not the data set's {dataset.name}: {differing}"
        )
