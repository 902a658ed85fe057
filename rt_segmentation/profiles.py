"""What a model's answers usually look like: measured on its validation frames, kept in its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS = 48
"""About so many rows of a label image are counted, and columns as near to each other."""


@dataclass(frozen=True)
class Answer:
    """What one frame's masks show.

    Attributes:
        shares: of the pixels, by class id, float64 (C,).
        confidence: mean of the top-1 probabilities, 0 to 1; None where they were not computed.
        changed: share of pixels with another class than in the frame before; None without one of that size.
    """

    shares: np.ndarray
    confidence: float | None
    changed: float | None


@dataclass(frozen=True)
class Profile:
    """The distribution of `Answer`s over frames that the model is meant for.

    Attributes:
        data: the frames: data set and split, or a folder.
        frames: how many.
        shares, shares_std: mean and standard deviation of each class's share, by class id.
        confidence, confidence_std: of the mean top-1 probability, 0 to 1.
        changed: 99th percentile of the share of pixels that change from a frame to the next. Frames of a data
            set are further apart in time than a camera's, so that a video stays below.
    """

    data: str
    frames: int
    shares: tuple[float, ...]
    shares_std: tuple[float, ...]
    confidence: float
    confidence_std: float
    changed: float

    @staticmethod
    def of(answers: Sequence[Answer], data: str) -> Profile:
        """Summarise answers, each with a confidence.

        Raises:
            ValueError: there are fewer than two.
        """
        if len(answers) < 2:
            raise ValueError(f"a profile needs two frames or more, {data} has {len(answers)}")
        shares = np.stack([answer.shares for answer in answers])
        confidences = np.array([answer.confidence for answer in answers], np.float64)
        changed = [answer.changed for answer in answers if answer.changed is not None]
        return Profile(
            data,
            len(answers),
            _rounded(shares.mean(0)),
            _rounded(shares.std(0)),
            round(float(confidences.mean()), 4),
            round(float(confidences.std()), 4),
            round(float(np.quantile(changed, 0.99)), 4) if changed else 1.0,
        )

    @staticmethod
    def read(content: Any, num_classes: int) -> Profile:
        """Take a profile from a manifest's mapping.

        Raises:
            ValueError: a key is missing, unknown or has a wrong value; the message says which.
        """
        names = list(Profile.__dataclass_fields__)
        if not isinstance(content, Mapping) or set(content) != set(names):
            raise ValueError(f"profile must have {', '.join(names)} and nothing else")
        try:
            profile = Profile(
                str(content["data"]),
                int(content["frames"]),
                tuple(float(value) for value in content["shares"]),
                tuple(float(value) for value in content["shares_std"]),
                *(float(content[name]) for name in ("confidence", "confidence_std", "changed")),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"profile has a value that is no number: {error}") from None
        if not len(profile.shares) == len(profile.shares_std) == num_classes:
            raise ValueError(
                f"profile has {len(profile.shares)} shares and {len(profile.shares_std)} deviations for"
                f" {num_classes} classes"
            )
        values = (*profile.shares, *profile.shares_std, *list(vars(profile).values())[4:])
        if not all(0 <= value <= 1 for value in values):
            raise ValueError("profile has a value that is not from 0 to 1")
        return profile


class Answers:
    """Reads frame after frame what the masks show; for one camera, and one thread.

    Args:
        num_classes: of the model.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._before: np.ndarray | None = None

    def read(self, labels: np.ndarray, confidence: np.ndarray | None) -> Answer:
        """Summarise a frame's masks, both of the network's size.

        Args:
            labels: uint8 (H, W).
            confidence: uint8 (H, W), or None.
        """
        step = max(1, labels.shape[0] // ROWS)
        sampled = np.ascontiguousarray(labels[::step, ::step])
        before, self._before = self._before, sampled
        counts = np.bincount(sampled.ravel(), minlength=self._num_classes)[: self._num_classes]
        changed = None
        if before is not None and before.shape == sampled.shape:
            changed = np.count_nonzero(before != sampled) / sampled.size
        mean = None if confidence is None else float(confidence[::step, ::step].mean()) / 255
        return Answer(counts / sampled.size, mean, changed)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
