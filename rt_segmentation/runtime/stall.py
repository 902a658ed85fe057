"""How long work has been going on, as somebody sees who looks some times per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable

MAX_STEP_S = 1.0
"""What one look may add [s]: more has passed only where the process was stopped or the machine slept."""


class Stall:
    """Tells work that hangs from work that goes on; to be asked some times per second.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._seen_s: dict[Hashable, float] = {}

    def look(self, at_work: Iterable[Hashable], is_excused: bool = False) -> float:
        """For how long the oldest piece of work has been seen [s]; 0 without any.

        Args:
            at_work: what is being worked at now; a name stands for one piece of work, and for no later one.
            is_excused: whether the time since the last look does not count.
        """
        now = self._clock()
        passed_s = 0.0 if is_excused else min(now - self._looked, MAX_STEP_S)
        self._looked = now
        self._seen_s = {
            work: self._seen_s[work] + passed_s if work in self._seen_s else 0.0 for work in at_work
        }
        return max(self._seen_s.values(), default=0.0)

    @property
    def oldest(self) -> Hashable:
        """The piece of work that `look` told of last; None without any."""
        return max(self._seen_s, key=self._seen_s.__getitem__, default=None)
