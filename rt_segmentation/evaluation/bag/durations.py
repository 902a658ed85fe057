"""Many durations in little memory, summed exactly in any order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BINS_PER_FACTOR_E = 100
"""Bins are logarithmic and fixed, each 1 % wide: a percentile is right to half a percent."""
COLUMN_BINS = 10
"""Number of bins in a column of the histogram."""


@dataclass
class Durations:
    """A histogram of durations with their exact sum, minimum and maximum [ns].

    Attributes:
        bins: how many durations there are from exp(k / 100) to exp((k + 1) / 100) ns, by k.
    """

    bins: Counter[int] = field(default_factory=Counter)
    sum_ns: int = 0
    min_ns: int | None = None
    max_ns: int = 0

    def record(self, duration_ns: int) -> None:
        """Add one duration; what is below 1 ns counts as 1 ns."""
        duration_ns = max(duration_ns, 1)
        self.add(
            Durations(
                Counter({int(math.log(duration_ns) * BINS_PER_FACTOR_E): 1}),
                duration_ns,
                duration_ns,
                duration_ns,
            )
        )

    def add(self, other: Durations) -> None:
        """Add another histogram's durations, exactly."""
        self.bins.update(other.bins)
        self.sum_ns += other.sum_ns
        both = [value for value in (self.min_ns, other.min_ns) if value is not None]
        self.min_ns = min(both, default=None)
        self.max_ns = max(self.max_ns, other.max_ns)

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.bins.values())

    def percentile_ms(self, percent: float) -> float | None:
        """The smallest duration that `percent` of all do not exceed, to half a percent [ms], or None."""
        if self.min_ns is None:
            return None
        rank = max(1, math.ceil(percent / 100 * self.count))
        seen = 0
        for k in sorted(self.bins):
            seen += self.bins[k]
            if seen >= rank:
                break
        middle_ns = math.exp((k + 0.5) / BINS_PER_FACTOR_E)
        return min(max(middle_ns, self.min_ns), self.max_ns) / 1e6

    def summary(self) -> dict[str, float] | None:
        """Minimum, median, 95th percentile, maximum and mean [ms]; None without any."""
        p50, p95 = self.percentile_ms(50), self.percentile_ms(95)
        if self.min_ns is None or p50 is None or p95 is None:
            return None
        mean = self.sum_ns / self.count / 1e6
        return {"min": self.min_ns / 1e6, "p50": p50, "p95": p95, "max": self.max_ns / 1e6, "mean": mean}

    def histogram(self) -> dict[str, list[Any]]:
        """Columns for a picture: n counts between n + 1 edges [ms], both empty without any duration."""
        columns: Counter[int] = Counter()
        for k, count in self.bins.items():
            columns[k // COLUMN_BINS] += count
        if not columns:
            return {"edges_ms": [], "counts": []}
        span = range(min(columns), max(columns) + 1)
        edges = [math.exp(c * COLUMN_BINS / BINS_PER_FACTOR_E) / 1e6 for c in (*span, span.stop)]
        return {"edges_ms": edges, "counts": [columns[c] for c in span]}

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        bins = {str(k): count for k, count in self.bins.items()}
        return {"bins": bins, "sum_ns": self.sum_ns, "min_ns": self.min_ns, "max_ns": self.max_ns}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Durations:
        """The inverse of `to_plain`."""
        bins = Counter({int(k): count for k, count in plain["bins"].items()})
        return cls(bins, plain["sum_ns"], plain["min_ns"], plain["max_ns"])


def covered_s(intervals: Sequence[Sequence[float]]) -> float:
    """How long at least one of the intervals was under way [s]."""
    covered, reached = 0.0, -math.inf
    for begin, end in sorted(map(tuple, intervals)):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered
