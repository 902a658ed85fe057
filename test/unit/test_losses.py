"""Losses against PyTorch's and against slow references made of the definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.data.statistics import ClassCounts
from rt_segmentation.training.losses import (
    SegmentationLoss,
    build_loss,
    class_weights,
    cross_entropy,
    dice_loss,
    lovasz_softmax,
)
from rt_segmentation.training.recipe import ClassWeights, Loss, load_recipe

CLASSES = 4
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0])


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of two frames; class 3 never occurs, a fifth is unlabelled."""
    generator = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(2, CLASSES, 6, 7, generator=generator)
    labels = torch.randint(0, CLASSES - 1, (2, 6, 7), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits, labels


def rows(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The labelled pixels, (pixels, classes) and (pixels,)."""
    labelled = labels != 255
    return logits.movedim(1, -1)[labelled], labels[labelled]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(frames: tuple[torch.Tensor, torch.Tensor], smoothing: float) -> None:
    logits, labels = frames
    expected = F.cross_entropy(
        logits,
        labels,
        torch.tensor(WEIGHTS, dtype=torch.float32),
        ignore_index=255,
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(SegmentationLoss(Loss(label_smoothing=smoothing), WEIGHTS)(*frames), expected)


def test_hard_examples_are_those_of_the_largest_loss(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, truth = rows(*frames)
    weights = torch.tensor(WEIGHTS, dtype=torch.float32)
    each = []
    for row, c in zip(logits.double().numpy(), truth.tolist()):
        each.append((WEIGHTS[c] * -math.log(np.exp(row[c]) / np.exp(row).sum()), WEIGHTS[c]))
    hardest = sorted(each, reverse=True)[: math.ceil(0.3 * len(each))]
    expected = sum(loss for loss, _ in hardest) / sum(weight for _, weight in hardest)
    assert float(cross_entropy(*frames, weights, ohem=0.3)) == pytest.approx(expected, rel=1e-5)
    assert float(cross_entropy(frames[0], torch.full_like(frames[1], 255), weights, ohem=0.3)) == 0
    one = cross_entropy(*frames, weights, ohem=1e-6)
    assert float(one) == pytest.approx(hardest[0][0] / hardest[0][1], rel=1e-5)


def test_dice_by_hand(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, truth = rows(*frames)
    probabilities = logits.softmax(1)
    scores = []
    for c in range(CLASSES):
        p, t = probabilities[:, c].numpy(), (truth == c).numpy()
        scores.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    found = dice_loss(frames[0].softmax(1), frames[1])
    assert float(found) == pytest.approx(1 - np.mean(scores), rel=1e-5)


def one_minus_iou(truth: set[int], wrong: set[int]) -> float:
    """Of a class with the pixels `truth` whose prediction is wrong, in or out, at the pixels `wrong`."""
    predicted = truth ^ wrong
    return 1 - len(predicted & truth) / len(predicted | truth) if predicted | truth else 0.0


def lovasz_extension(truth: set[int], errors: list[float]) -> float:
    """The integral over t from 0 to 1 of the set function at the pixels with errors of t and more."""
    thresholds = sorted({0.0, *errors})
    return sum(
        (upper - lower) * one_minus_iou(truth, {i for i, e in enumerate(errors) if e >= upper})
        for lower, upper in pairwise(thresholds)
    )


def test_lovasz_softmax_is_the_lovasz_extension(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, truth = rows(*frames)
    probabilities = logits.double().softmax(1)
    # Equal errors, which may be sorted in any order, are among them.
    probabilities[5] = probabilities[6] = probabilities[7]
    losses = []
    for c in sorted(set(truth.tolist())):
        pixels = {i for i, t in enumerate(truth.tolist()) if t == c}
        errors = [abs((i in pixels) - p) for i, p in enumerate(probabilities[:, c].tolist())]
        losses.append(lovasz_extension(pixels, errors))
    assert len(losses) == CLASSES - 1
    assert float(lovasz_softmax(probabilities, truth)) == pytest.approx(np.mean(losses), rel=1e-9)


def test_lovasz_softmax_in_float32_has_the_gradient_of_the_plain_one(
    frames: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = frames
    truth = rows(*frames)[1]
    found, plain = (logits.clone().requires_grad_() for _ in range(2))
    value = lovasz_softmax(found.softmax(1), labels)
    losses = []
    for c in range(CLASSES - 1):
        errors = (rows(plain.softmax(1), labels)[0][:, c] - (truth == c).float()).abs()
        errors, order = errors.sort(descending=True)
        is_class = (truth == c)[order].float()
        sets = 1 - (is_class.sum() - is_class.cumsum(0)) / (is_class.sum() + (1 - is_class).cumsum(0))
        losses.append(errors @ sets.diff(prepend=torch.zeros(1)))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(value, expected)
    (gradient,), (wanted,) = torch.autograd.grad(value, found), torch.autograd.grad(expected, plain)
    torch.testing.assert_close(gradient, wanted)
    assert not gradient.movedim(1, -1)[labels == 255].any()


def test_lovasz_softmax_of_certain_predictions_is_one_minus_the_mean_iou() -> None:
    truth = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 1, 1, 1, 0])
    ious = [2 / 4, 2 / 3, 0]
    found = lovasz_softmax(F.one_hot(predicted, CLASSES).double(), truth)
    assert float(found) == pytest.approx(1 - np.mean(ious))


every_term = pytest.mark.parametrize(
    "settings",
    [
        Loss(),
        Loss(ohem=0.25),
        Loss(cross_entropy=0, dice=1),
        Loss(cross_entropy=0, lovasz=1),
        Loss(cross_entropy=0.5, label_smoothing=0.1, dice=2, lovasz=3),
    ],
    ids=["cross-entropy", "ohem", "dice", "lovasz", "all"],
)


@every_term
def test_a_loss_falls_towards_the_truth_and_ignores_void(
    frames: tuple[torch.Tensor, torch.Tensor], settings: Loss
) -> None:
    logits, labels = frames
    loss = SegmentationLoss(settings, WEIGHTS)
    values = []
    learned = nn.Parameter(logits.clone())
    optimizer = torch.optim.Adam([learned], 0.1)
    for _ in range(30):
        value = loss(learned, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]
    assert torch.equal(learned.movedim(1, -1)[labels == 255], logits.movedim(1, -1)[labels == 255])
    elsewhere = logits + 50 * (labels == 255)[:, None] * torch.randn(CLASSES, 1, 1)
    torch.testing.assert_close(loss(elsewhere, labels), loss(logits, labels))


@every_term
def test_terms_add_up_in_half_precision_and_without_labels(
    frames: tuple[torch.Tensor, torch.Tensor], settings: Loss
) -> None:
    logits, labels = frames
    loss = SegmentationLoss(settings, WEIGHTS)
    rounded = logits.bfloat16()
    expected = loss(rounded.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(rounded, labels), expected)
    nothing = logits.clone().requires_grad_()
    value = loss(nothing, torch.full_like(labels, 255))
    value.backward()
    assert value.item() == 0
    assert nothing.grad is not None and not nothing.grad.any()


def test_terms_are_weighted() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, CLASSES, 5, 5), torch.randint(0, CLASSES, (1, 5, 5))
    ones = np.ones(CLASSES)
    parts = [
        factor * float(SegmentationLoss(settings, ones)(logits, labels))
        for factor, settings in (
            (0.5, Loss()),
            (2.0, Loss(cross_entropy=0, dice=1)),
            (3.0, Loss(cross_entropy=0, lovasz=1)),
        )
    ]
    whole = SegmentationLoss(Loss(cross_entropy=0.5, dice=2, lovasz=3), ones)(logits, labels)
    assert float(whole) == pytest.approx(sum(parts), rel=1e-5)


def test_class_weights() -> None:
    counts = ClassCounts(3)
    labels = np.zeros((4, 5), np.uint8)
    labels[:2] = 1
    labels[0] = 255
    counts.add_labels(labels)
    counts.add_labels(np.zeros((2, 5), np.uint8))
    # 20 pixels of class 0, 5 of class 1, none of class 2.
    log = class_weights(ClassWeights("log", 1.02), counts)
    np.testing.assert_allclose(log, [1 / math.log(1.02 + p) for p in (0.8, 0.2, 0)])
    # Class 0 is in both frames, 20 of 30 pixels; class 1 in the first alone, 5 of 20.
    middle = (20 / 30 + 5 / 20) / 2
    median = class_weights(ClassWeights("median"), counts)
    np.testing.assert_allclose(median, [middle / (20 / 30), middle / (5 / 20), 0])
    np.testing.assert_array_equal(class_weights(ClassWeights("none"), counts), np.ones(3))
    for settings in (ClassWeights("log", 1.02), ClassWeights("median")):
        np.testing.assert_array_equal(class_weights(settings, ClassCounts(3)), np.ones(3))


def test_the_papers_weights_lie_between_1_and_50() -> None:
    counts = ClassCounts(2)
    counts.add_labels(np.zeros((4, 4), np.uint8))
    # ENet, Section 5.2, says so for c = 1.02.
    weights = class_weights(load_recipe("enet_camvid_paper").loss.class_weights, counts)
    np.testing.assert_allclose(weights, [1.4223, 50.498], rtol=1e-4)


def test_a_recipes_loss_has_its_weights_and_terms() -> None:
    recipe = load_recipe("enet_camvid")
    counts = ClassCounts(11)
    counts.add_labels(np.arange(11, dtype=np.uint8).reshape(1, 11))
    loss = build_loss(recipe, counts)
    np.testing.assert_allclose(loss.weights.numpy(), 1 / np.log(1.1 + np.full(11, 1 / 11)), rtol=1e-6)
    assert loss.settings.dice == 1
