"""A model's profile, and how far the latest answers are from it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from rt_segmentation.profiles import Answer, Answers, Profile
from rt_segmentation.runtime.drift import WINDOW_S, Drift

NAMES = ("road", "sky", "car")
PROFILE = Profile("street val", 100, (0.5, 0.4, 0.1), (0.05, 0.04, 0.02), 0.9, 0.01, 0.2)


def answer(
    road: float = 0.5, sky: float = 0.4, confidence: float | None = None, changed: float = 0.1
) -> Answer:
    return Answer(np.array([road, sky, 1 - road - sky]), confidence, changed)


def drift_of(answers: list[Answer]) -> Drift:
    now = [0.0]
    drift = Drift(PROFILE, NAMES, lambda: now[0])
    for one in answers:
        now[0] += 0.1
        drift.add(one)
    return drift


def test_answers_count_pixels_and_what_changed() -> None:
    answers = Answers(3)
    labels = np.zeros((16, 16), np.uint8)
    labels[:8] = 2
    first = answers.read(labels, np.full((16, 16), 51, np.uint8))
    assert first.shares.tolist() == [0.5, 0, 0.5]
    assert first.confidence == pytest.approx(0.2)
    assert first.changed is None
    labels = labels.copy()
    labels[:, :4] = 1
    second = answers.read(labels, None)
    assert second.shares.tolist() == [0.375, 0.25, 0.375]
    assert second.confidence is None
    assert second.changed == 0.25
    assert answers.read(labels[:8], None).changed is None


def test_labels_of_no_class_have_no_share() -> None:
    labels = np.full((8, 8), 255, np.uint8)
    labels[0, 0] = 1
    assert Answers(3).read(labels, None).shares.tolist() == [0, 1 / 64, 0]


def test_a_profile_is_mean_and_deviation_of_answers() -> None:
    profile = Profile.of([answer(0.4, confidence=0.8), answer(0.6, 0.2, confidence=0.9, changed=0.3)], "two")
    assert profile.shares == (0.5, 0.3, 0.2)
    assert profile.shares_std == (0.1, 0.1, 0.0)
    assert (profile.confidence, profile.confidence_std) == (0.85, 0.05)
    assert profile.changed == pytest.approx(0.298)
    with pytest.raises(ValueError, match="two frames or more, empty has 0"):
        Profile.of([], "empty")


def test_a_profile_is_read_as_it_was_written() -> None:
    assert Profile.read(asdict(PROFILE), 3) == PROFILE


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"frames": "many"}, "no number"),
        ({"shares": 3}, "no number"),
        ({"shares": [1.0]}, "1 shares and 3 deviations for 3 classes"),
        ({"confidence": 90}, "not from 0 to 1"),
        ({"changed": float("nan")}, "not from 0 to 1"),
        ({"more": 1}, "and nothing else"),
    ],
)
def test_what_is_wrong_with_a_profile_is_said(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Profile.read({**asdict(PROFILE), **change}, 3)


def test_usual_answers_are_quiet() -> None:
    rng = np.random.default_rng(0)
    drift = drift_of([answer(0.5 + d, 0.4 - d, 0.89) for d in rng.normal(0, 0.05, 80)])
    assert drift.value is not None
    assert drift.value < 2
    assert drift.problems(4) == []


def test_nothing_is_judged_by_few_or_by_old_frames() -> None:
    assert drift_of([answer(1.0, 0.0)] * 4).value is None
    now = [0.0]
    drift = Drift(PROFILE, NAMES, lambda: now[0])
    for _ in range(20):
        drift.add(answer(1.0, 0.0))
    assert drift.value == pytest.approx(10)
    now[0] += WINDOW_S + 1
    assert drift.value is None
    assert drift.problems(4) == []


def test_the_class_that_is_far_is_named() -> None:
    drift = drift_of([answer(0.1, 0.8)] * 20)
    assert drift.problems(4) == [
        "the answers are unlike those on street val: 80% of the pixels are sky, usual are 40%"
    ]
    assert drift.problems(0) == []


def test_low_confidence_is_named_and_high_is_fine() -> None:
    assert drift_of([answer(confidence=0.7)] * 20).problems(4) == [
        "the answers are unlike those on street val: the mean confidence is 70%, usual is 90%"
    ]
    assert drift_of([answer(confidence=1.0)] * 20).problems(0.5) == []


def test_flicker_is_named() -> None:
    (said,) = drift_of([answer(changed=0.5)] * 20).problems(4)
    assert (
        said
        == "the masks flicker: 50% of the pixels change from frame to frame, where street val has 20% at most"
    )


def test_a_class_that_never_occurred_may_occur_a_little() -> None:
    now = [0.0]
    drift = Drift(replace(PROFILE, shares_std=(0.0, 0.0, 0.0)), NAMES, lambda: now[0])
    for _ in range(10):
        drift.add(answer(0.48, 0.4))
    assert drift.problems(4) == []
