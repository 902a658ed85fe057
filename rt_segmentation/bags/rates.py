"""How often messages come while they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

N = TypeVar("N", int, float)

PAUSE_PERIODS, PAUSE_NS = 10, 1_000_000_000
"""A gap that is longer than both, the first in median gaps, is a pause of the recording."""


def played_ns(gap_ns: N, period_ns: N) -> N:
    """A gap between messages without pauses [ns]: one period for a pause, or where a clock was set back."""
    return gap_ns if 0 <= gap_ns <= max(PAUSE_PERIODS * period_ns, PAUSE_NS) else period_ns


def rate_hz(recorded_ns: Sequence[float]) -> float | None:
    """Messages per second, without pauses; None for less than two, or for ones that all came at once."""
    gaps_ns = np.diff(np.asarray(recorded_ns, np.float64))
    if not gaps_ns.size:
        return None
    period_ns = float(np.median(gaps_ns))
    span_ns = sum(played_ns(gap_ns, period_ns) for gap_ns in gaps_ns.tolist())
    return len(gaps_ns) / span_ns * 1e9 if span_ns > 0 else None
