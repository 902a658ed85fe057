"""Is the camera's picture still a picture? Watches the network's inputs of one camera, at little cost.

A camera that sends one picture again and again, a lens cap, a sun in the lens, mud, half of the frames: masks
of all that are published as before, and mean nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import cv2
import numpy as np

GRID_ROWS = 24
"""Rows of a picture that are looked at, spread over its height."""
BLACK_LEVEL, WHITE_LEVEL = 16, 250
"""A pixel at or below the first is black, at or above the second white, of 255."""
MIN_CONTRAST = 4.0
"""Standard deviation of a picture, of 255, below which its sharpness says nothing."""
WINDOW_S = 2.0
"""Judged are the pictures of this time; a fault must fill it [s]."""
LEARNING_S = 5.0
"""What is usual is known after this time [s]."""
USUAL_S, UNUSUAL_S = 30.0, 600.0
"""Time constants with which the usual follows what is near it, and what is not [s]."""


@dataclass(frozen=True)
class InputLimits:
    """What is too much; the parameters `input.*` of the node.

    Attributes:
        frozen_s: the same picture for this long, under new stamps [s]; 0 never warns.
        black_share, white_share: share of black, and of white, pixels; 1 never warns.
        sharpness_share: share of the usual sharpness below which pictures are blurred; 0 never warns.
        rate_share: share of the usual rate below which it has dropped; 0 never warns.
    """

    frozen_s: float = 5.0
    black_share: float = 0.95
    white_share: float = 0.6
    sharpness_share: float = 0.4
    rate_share: float = 0.6


@dataclass(frozen=True)
class _Look:
    """What one picture shows."""

    at: float
    black: float
    white: float
    sharpness: float | None


class InputHealth:
    """Judges the pictures of one camera; may be used by several threads.

    Args:
        limits: what is too much.
        clock: monotonic seconds.
    """

    def __init__(
        self, limits: InputLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or InputLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._view: Hashable = None
        self._looks: deque[_Look] = deque()
        self._arrivals: deque[float] = deque()
        self._last_rows: np.ndarray | None = None
        self._last_stamp_ns = 0
        self._frozen_since: float | None = None
        self._sharpness, self._interval_s = _Usual(), _Usual()

    def arrived(self) -> None:
        """An image came, whether or not it will be segmented."""
        with self._lock:
            now = self._clock()
            # Silence is not a low rate: nobody may have listened.
            if self._arrivals and now - self._arrivals[-1] > WINDOW_S:
                self._arrivals.clear()
            self._arrivals.append(now)
            while self._arrivals[0] < now - WINDOW_S:
                self._arrivals.popleft()
            interval_s = self._recent_interval_s()
            if interval_s is not None:
                usual = self._interval_s.value
                slow = usual is not None and interval_s * self.limits.rate_share > usual
                self._interval_s.add(interval_s, now, slow)

    def look(self, rgb: np.ndarray, stamp_ns: int, view: Hashable = None) -> None:
        """Look at an image as the network sees it.

        Args:
            rgb: uint8 (H, W, 3).
            stamp_ns: the image's [ns].
            view: what of the camera's image it is, and at which scale: what is usual is of one view.
        """
        step = max(1, rgb.shape[0] // GRID_ROWS)
        rows = np.ascontiguousarray(rgb[step // 2 :: step, :, 1])
        contrast = float(cv2.meanStdDev(rows)[1][0, 0])
        sharpness = None
        if contrast >= MIN_CONTRAST and rows.shape[1] > 1:
            sharpness = cv2.mean(cv2.absdiff(rows[:, 1:], rows[:, :-1]))[0] / contrast
        black = np.count_nonzero(rows <= BLACK_LEVEL) / rows.size
        white = np.count_nonzero(rows >= WHITE_LEVEL) / rows.size
        with self._lock:
            now = self._clock()
            if view != self._view:
                self._view, self._sharpness, self._last_rows = view, _Usual(), None
                self._looks.clear()
            self._notice_repeats(rows, stamp_ns, now)
            if sharpness is not None:
                self._sharpness.add(sharpness, now, self._is_blurred(sharpness))
            self._looks.append(_Look(now, black, white, sharpness))
            while self._looks[0].at < now - WINDOW_S:
                self._looks.popleft()

    @property
    def has_looked(self) -> bool:
        """Whether images of the last seconds were looked at: of others `problems` says nothing."""
        with self._lock:
            return bool(self._recent_looks())

    def problems(self) -> list[str]:
        """What is wrong with the images of the last seconds, a sentence each; empty if nothing is."""
        limits = self.limits
        with self._lock:
            now = self._clock()
            looks = self._recent_looks()
            found = []
            interval_s, usual_s = self._recent_interval_s(), self._interval_s.value
            is_silent = not self._arrivals or now - self._arrivals[-1] > WINDOW_S
            if interval_s and usual_s and not is_silent and interval_s * limits.rate_share > usual_s:
                found.append(f"images come at {1 / interval_s:.1f} Hz; {1 / usual_s:.1f} Hz is usual")
            if not looks:
                return found
            frozen_s = 0.0 if self._frozen_since is None else looks[-1].at - self._frozen_since
            if 0 < limits.frozen_s <= frozen_s:
                found.append(f"the camera has sent the same picture for {frozen_s:.0f} s, under new stamps")
            black, white = min(look.black for look in looks), min(look.white for look in looks)
            if limits.black_share < 1 and black >= limits.black_share:
                found.append(f"the images are black: {black:.0%} of their pixels are")
            if limits.white_share < 1 and white >= limits.white_share:
                found.append(f"the images are overexposed: {white:.0%} of their pixels are white")
            best = max((look.sharpness for look in looks if look.sharpness is not None), default=None)
            usual = self._sharpness.value
            if best is not None and usual is not None and self._is_blurred(best):
                found.append(f"the images are blurred: they have {best / usual:.0%} of their usual sharpness")
            return found

    def _recent_looks(self) -> list[_Look]:
        since = self._clock() - WINDOW_S
        return [look for look in self._looks if look.at >= since]

    def _recent_interval_s(self) -> float | None:
        if len(self._arrivals) < 2:
            return None
        return (self._arrivals[-1] - self._arrivals[0]) / (len(self._arrivals) - 1)

    def _is_blurred(self, sharpness: float) -> bool:
        usual = self._sharpness.value
        return usual is not None and sharpness < self.limits.sharpness_share * usual

    def _notice_repeats(self, rows: np.ndarray, stamp_ns: int, now: float) -> None:
        # A picture sent twice under its stamp is a duplicate, and no new one.
        if stamp_ns != self._last_stamp_ns:
            if self._last_rows is None or not np.array_equal(rows, self._last_rows):
                self._frozen_since = None
            elif self._frozen_since is None:
                self._frozen_since = now
        self._last_rows, self._last_stamp_ns = rows, stamp_ns


class _Usual:
    """The value that is usual: a mean that forgets, what is far from it slowly."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._count = 0
        self._since = self._last = 0.0

    @property
    def value(self) -> float | None:
        """None until it has been watched for `LEARNING_S`."""
        return self._mean if self._last - self._since >= LEARNING_S else None

    def add(self, value: float, now: float, is_unusual: bool) -> None:
        if not self._count:
            self._since = self._last = now
        passed_s = min(now - self._last, WINDOW_S)
        weight = passed_s / (UNUSUAL_S if is_unusual else USUAL_S)
        if self.value is None:
            weight = max(weight, 1 / (self._count + 1))
        self._mean += (value - self._mean) * weight
        self._count += 1
        self._last = now
