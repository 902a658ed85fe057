"""Counts and latencies of a stream, for diagnostics; safe to use from several threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WINDOW_S = 5.0
"""Rates and percentiles look back this long [s]."""


@dataclass(frozen=True)
class Percentiles:
    """Of a stage's recent durations [ms]."""

    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True)
class Snapshot:
    """The state of a stream at one moment.

    Attributes:
        received, published: frames since the start.
        dropped: frames since the start that came in and not out, by reason.
        lost: messages since the start that the middleware says were sent and never came.
        input_hz, output_hz: over the window, or the part of it in which frames have come.
        stages: durations over the window, by stage.
        since_input_s: time since the last frame came, None before the first.
        is_young: whether frames have come for less than a window since they are wanted.
    """

    received: int
    published: int
    dropped: dict[str, int]
    lost: int
    input_hz: float
    output_hz: float
    stages: dict[str, Percentiles]
    since_input_s: float | None
    is_young: bool = False

    def newly_dropped(self, reason: str, before: Snapshot) -> int:
        """How many frames were dropped for a reason since an earlier snapshot."""
        return self.dropped.get(reason, 0) - before.dropped.get(reason, 0)

    def facts(self, what: str) -> dict[str, str]:
        """Output rate, drops by reason, and times by stage, as the values of a diagnostic.

        Args:
            what: the frames are, as 'masks'.
        """
        facts = {
            "output rate [Hz]": f"{self.output_hz:.2f}",
            f"{what} dropped": str(sum(self.dropped.values())),
            **{f"{what} dropped: {reason}": str(count) for reason, count in sorted(self.dropped.items())},
        }
        for stage, times in self.stages.items():
            for name, value in (("p50", times.p50_ms), ("p95", times.p95_ms), ("max", times.max_ms)):
                facts[f"{stage} {name} [ms]"] = f"{value:.2f}"
        return facts


class StreamStatistics:
    """What happened to the frames of one camera.

    At rest, ``received == published + sum(dropped.values())``: every frame that came in is accounted for.

    Args:
        window_s: rates and percentiles look back this long [s].
        clock: monotonic seconds.
    """

    def __init__(self, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s, self._clock = window_s, clock
        self._lock = threading.Lock()
        self._received = self._published = self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._arrivals: deque[float] = deque()
        self._departures: deque[tuple[float, dict[str, float]]] = deque()
        self._last_input: float | None = None
        self._started = clock()
        self._is_wanted = self._awaits_first = False

    def follow(self, wanted: bool) -> None:
        """Whether frames are wanted; since they are, rates begin with the first one that comes."""
        with self._lock:
            if wanted and not self._is_wanted:
                self._started, self._awaits_first = self._clock(), True
                self._forget()
            self._is_wanted = wanted

    def frame_received(self, came_at: float | None = None) -> None:
        """A frame came in.

        Args:
            came_at: when [s, of the clock]; not before those that are counted. None: now.
        """
        with self._lock:
            self._received += 1
            self._last_input = self._clock() if came_at is None else came_at
            if self._awaits_first:
                # It begins the time in which the others are counted.
                self._started, self._awaits_first = self._clock(), False
            else:
                self._arrivals.append(self._last_input)
            self._forget()

    def frame_dropped(self, reason: str) -> None:
        """A frame that came in will not come out."""
        with self._lock:
            self._dropped[reason] += 1

    def frame_published(self, stages_ms: dict[str, float]) -> None:
        """A frame went out; how long each stage took [ms]."""
        with self._lock:
            self._published += 1
            self._departures.append((self._clock(), stages_ms))
            self._forget()

    def messages_lost(self, count: int) -> None:
        """The middleware says that messages were sent and did not come."""
        with self._lock:
            self._lost += count

    @property
    def is_at_rest(self) -> bool:
        """Whether every frame that came in has come out or was dropped."""
        with self._lock:
            return self._received == self._published + self._dropped.total()

    def snapshot(self) -> Snapshot:
        """The state now."""
        with self._lock:
            now = self._clock()
            self._forget()
            age_s = now - self._started
            span = max(min(self._window_s, age_s), 1e-3)
            by_stage: dict[str, list[float]] = {}
            for _, stages in self._departures:
                for stage, duration in stages.items():
                    by_stage.setdefault(stage, []).append(duration)
            return Snapshot(
                self._received,
                self._published,
                dict(self._dropped),
                self._lost,
                len(self._arrivals) / span,
                len(self._departures) / span,
                {stage: _percentiles(durations) for stage, durations in by_stage.items()},
                None if self._last_input is None else now - self._last_input,
                age_s < self._window_s,
            )

    def _forget(self) -> None:
        oldest = max(self._clock() - self._window_s, self._started)
        while self._arrivals and self._arrivals[0] < oldest:
            self._arrivals.popleft()
        while self._departures and self._departures[0][0] < oldest:
            self._departures.popleft()


def _percentiles(durations_ms: list[float]) -> Percentiles:
    p50, p95 = np.percentile(durations_ms, (50, 95))
    return Percentiles(float(p50), float(p95), max(durations_ms))
