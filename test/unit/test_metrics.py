"""Confusion matrices against counting pixel by pixel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from rt_segmentation.evaluation.instances import InstanceScores
from rt_segmentation.evaluation.metrics import ConfusionMatrix, ImageDice, categories
from rt_segmentation.labels import load_label_set


def test_equals_counting_by_hand() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, (40, 50)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    predicted = rng.integers(0, 4, truth.shape).astype(np.uint8)
    predicted[rng.random(truth.shape) < 0.05] = 255
    confusion = ConfusionMatrix(4)
    confusion.update(truth, predicted)
    labelled = truth != 255
    for c in range(4):
        hits = int(((truth == c) & (predicted == c)).sum())
        union = int((((truth == c) | (predicted == c)) & labelled).sum())
        assert confusion.class_iou()[c] == hits / union
        assert confusion.class_accuracy()[c] == hits / int((truth == c).sum())
    assert confusion.global_average() == ((truth == predicted) & labelled).sum() / labelled.sum()


def test_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 11, (6, 32, 32)).astype(np.uint8)
    predicted = rng.integers(0, 11, truth.shape).astype(np.uint8)
    whole, sum_of_parts = ConfusionMatrix(11), ConfusionMatrix(11)
    whole.update(truth, predicted)
    for t, p in zip(truth, predicted):
        part = ConfusionMatrix(11)
        part.update(t, p)
        sum_of_parts.add(part)
    np.testing.assert_array_equal(whole.counts, sum_of_parts.counts)


def test_absent_classes_are_no_part_of_the_mean() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert confusion.mean_iou() == 1.0
    assert np.isnan(confusion.class_iou()[1:]).all()


def test_void_alone_has_no_score() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert np.isnan(confusion.mean_iou())
    assert np.isnan(confusion.global_average())


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"\(2, 3\).*\(3, 2\)"),
        (np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8), "id 7, there are 3 classes"),
    ],
)
def test_bad_input_is_named(truth: np.ndarray, predicted: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(3).update(truth, predicted)


def test_ignored_classes_count_as_unlabelled() -> None:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 4, (40, 50)).astype(np.uint8)
    predicted = rng.integers(0, 4, truth.shape).astype(np.uint8)
    ignoring, plain = ConfusionMatrix(4, [3]), ConfusionMatrix(4)
    ignoring.update(truth, predicted)
    plain.update(np.where(truth == 3, 255, truth).astype(np.uint8), predicted)
    np.testing.assert_array_equal(ignoring.class_iou()[:3], plain.class_iou()[:3])
    np.testing.assert_array_equal(ignoring.class_accuracy()[:3], plain.class_accuracy()[:3])
    assert np.isnan(ignoring.class_iou()[3]) and np.isnan(ignoring.class_accuracy()[3])
    assert ignoring.global_average() == plain.global_average()
    assert ignoring.mean_iou() == plain.class_iou()[:3].mean()


def test_group_iou_is_the_iou_of_merged_classes() -> None:
    rng = np.random.default_rng(8)
    truth = rng.integers(0, 5, (40, 50)).astype(np.uint8)
    predicted = rng.integers(0, 5, truth.shape).astype(np.uint8)
    merge = np.array([0, 0, 1, 1, 2], np.uint8)
    confusion, merged = ConfusionMatrix(5), ConfusionMatrix(3)
    confusion.update(truth, predicted)
    merged.update(merge[truth], merge[predicted])
    scores = confusion.group_iou({"a": [0, 1], "b": [2, 3], "c": [4]})
    assert list(scores.values()) == pytest.approx(merged.class_iou().tolist())
    assert np.isnan(ConfusionMatrix(2).group_iou({"a": [0, 1]})["a"])


def test_categories_keep_the_order_of_the_classes() -> None:
    groups = categories(load_label_set("cityscapes19"))
    assert list(groups) == ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    assert groups["human"] == [11, 12]


def test_image_dice_by_hand() -> None:
    dice = ImageDice(3)
    # Class 0: 2*1/(2+1); class 1: 2*1/(1+2); void: 0 of 1 and 0; class 2: 0 of 0 and 1.
    dice.update(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 2]], np.uint8))
    first = (2 / 3 + 2 / 3 + 0 + 0) / 4
    assert dice.value() == pytest.approx(first)
    # A perfect image, its void included, has 1; images weigh alike whatever their size.
    dice.update(np.full((9, 9), 255, np.uint8), np.full((9, 9), 255, np.uint8))
    assert dice.value() == pytest.approx((first + 1) / 2)
    assert np.isnan(ImageDice(3).value())


def test_memory_does_not_grow_with_the_images() -> None:
    confusion, dice = ConfusionMatrix(3), ImageDice(3)
    instances = InstanceScores({1: 10.0}, {"all": [1]})

    def size() -> int:
        return len(pickle.dumps((confusion.__dict__, dice.__dict__, instances.__dict__)))

    rng = np.random.default_rng(9)
    sizes = []
    for _ in range(30):
        truth, predicted = rng.integers(0, 3, (2, 16, 16)).astype(np.uint8)
        confusion.update(truth, predicted)
        dice.update(truth, predicted)
        instances.update(rng.integers(0, 2**16, (16, 16)).astype(np.uint16), predicted)
        sizes.append(size())
    assert max(sizes) - sizes[1] < 64
