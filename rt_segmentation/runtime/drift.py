"""Are the answers still such as the model gave on the frames that it is meant for?"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from rt_segmentation.profiles import Answer, Profile

WINDOW_S = 10.0
"""The answers of this time are judged together: one odd frame is no drift [s]."""
MIN_FRAMES = 5
"""Answers that a judgement needs."""
MIN_DEVIATION = 0.03
"""A class's share, or the confidence, may differ by this where the profile's deviation is smaller."""


class Drift:
    """Compares a camera's latest answers with the model's profile; may be used by several threads.

    The measure is the largest distance of a mean, over the last seconds, from the profile's mean, in the
    profile's standard deviations: of each class's share of the pixels, and of the confidence.

    Args:
        profile: the model's.
        names: of its classes, by id.
        clock: monotonic seconds.
    """

    def __init__(
        self, profile: Profile, names: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._profile, self._names, self._clock = profile, tuple(names), clock
        self._lock = threading.Lock()
        self._answers: deque[tuple[float, Answer]] = deque()
        # Of their shares, confidences and changed pixels, the last two with their number: a judgement costs
        # the same whatever the rate.
        self._shares = np.zeros(len(profile.shares))
        self._confidence, self._changed = np.zeros(2), np.zeros(2)
        self._usual = np.array(profile.shares)
        self._deviation = np.maximum(np.array(profile.shares_std), MIN_DEVIATION)

    def add(self, answer: Answer) -> None:
        """Count a frame's answer."""
        with self._lock:
            now = self._clock()
            self._answers.append((now, answer))
            self._count(answer, 1)
            self._forget(now)

    @property
    def value(self) -> float | None:
        """The measure [standard deviations]; None while too few frames have come."""
        judged = self._judged()
        return None if judged is None else judged[0]

    def problems(self, limit: float) -> list[str]:
        """What is far from the profile, a sentence each; empty if nothing is.

        Args:
            limit: the measure above which it is far; 0 never warns.
        """
        judged = self._judged()
        if judged is None or limit <= 0:
            return []
        worst, sentence, changed = judged
        found = [sentence] if worst > limit else []
        if changed is not None and changed > self._profile.changed:
            found.append(
                f"the masks flicker: {changed:.0%} of the pixels change from frame to frame, where"
                f" {self._profile.data} has {self._profile.changed:.0%} at most"
            )
        return found

    def _judged(self) -> tuple[float, str, float | None] | None:
        with self._lock:
            self._forget(self._clock())
            count = len(self._answers)
            shares = self._shares / max(count, 1)
            confidence, changed = _mean(self._confidence), _mean(self._changed)
        if count < MIN_FRAMES:
            return None
        profile = self._profile
        distances = np.abs(shares - self._usual) / self._deviation
        index = int(distances.argmax())
        worst = float(distances[index])
        sentence = (
            f"the answers are unlike those on {profile.data}: {shares[index]:.0%} of the pixels are"
            f" {self._names[index]}, usual are {self._usual[index]:.0%}"
        )
        if confidence is not None:
            # More confidence than usual is no reason to doubt.
            distance = (profile.confidence - confidence) / max(profile.confidence_std, MIN_DEVIATION)
            if distance > worst:
                worst = distance
                sentence = (
                    f"the answers are unlike those on {profile.data}: the mean confidence is"
                    f" {confidence:.0%}, usual is {profile.confidence:.0%}"
                )
        return worst, sentence, changed

    def _forget(self, now: float) -> None:
        while self._answers and self._answers[0][0] < now - WINDOW_S:
            self._count(self._answers.popleft()[1], -1)

    def _count(self, answer: Answer, sign: int) -> None:
        self._shares += sign * answer.shares
        for total, value in ((self._confidence, answer.confidence), (self._changed, answer.changed)):
            if value is not None:
                total += np.array([sign * value, sign])
        if not self._answers:
            # What rounding left over does not add up over days.
            for total in (self._shares, self._confidence, self._changed):
                total[:] = 0


def _mean(total: np.ndarray) -> float | None:
    """Of a sum and its number; None of none."""
    return float(total[0] / total[1]) if total[1] > 0.5 else None
