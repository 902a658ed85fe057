"""How often messages come while they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PAUSE_PERIODS, PAUSE_NS = 10, 1_000_000_000
"""A gap that is longer than both, the first in median gaps, may be a pause of the recording."""
PAUSES, FEW = 0.1, 3
"""This share of the gaps are pauses at most, and one of more than a few; more of them lie between bursts."""


@dataclass
class Played:
    """For how long messages came, counted gap by gap.

    Attributes:
        period_ns: the median gap, which stands for a pause.
        gaps: how many gaps there are.
        short_ns: the sum of those that are no pause.
        long: how many may be pauses.
        long_ns: the sum of these.
    """

    period_ns: float
    gaps: int = 0
    short_ns: float = 0
    long: int = 0
    long_ns: float = 0

    def add(self, gap_ns: float) -> None:
        """Count a gap; one below 0 is a clock that was set back."""
        self.gaps += 1
        if gap_ns > max(PAUSE_PERIODS * self.period_ns, PAUSE_NS):
            self.long += 1
            self.long_ns += gap_ns
        else:
            self.short_ns += gap_ns if gap_ns >= 0 else self.period_ns

    def span_ns(self) -> float:
        """From the first message to the last without pauses."""
        are_pauses = self.long <= max(PAUSES * self.gaps, 1 if self.gaps > FEW else 0)
        return self.short_ns + (self.long * self.period_ns if are_pauses else self.long_ns)


def rate_hz(recorded_ns: Sequence[float]) -> float | None:
    """Messages per second, without pauses; None for less than two, or for ones that all came at once."""
    gaps_ns = np.diff(np.asarray(recorded_ns, np.float64))
    if not gaps_ns.size:
        return None
    played = Played(float(np.median(gaps_ns)))
    for gap_ns in gaps_ns.tolist():
        played.add(gap_ns)
    span_ns = played.span_ns()
    return played.gaps / span_ns * 1e9 if span_ns > 0 else None
