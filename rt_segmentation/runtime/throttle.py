"""At most so many items per second."""

from __future__ import annotations

import time
from collections.abc import Callable

EARLY = 0.25
"""An item may come this share of a period before its time: clocks and drivers are not exact."""


class Throttle:
    """Says which items of a stream pass, evenly; on average no more than the rate.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock()

    def passes(self, rate_hz: float) -> bool:
        """Whether an item that comes now passes.

        Args:
            rate_hz: the limit; 0 for none.
        """
        if rate_hz <= 0:
            return True
        now, period = self._clock(), 1 / rate_hz
        # A limit that was lowered, or set, counts from now on.
        self._due = min(self._due, now + (1 + EARLY) * period)
        if now < self._due - EARLY * period:
            return False
        # One that comes late does not make the next ones late; after a silence nothing is made up for.
        self._due = (self._due if now - self._due < period else now) + period
        return True
