"""Messages of several topics put together by their stamps; bounded, the newest first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

DEPTH = 64
"""Depth images at 30 Hz wait 2 s for their masks, as long as a network on a busy processor may take."""
RESTART_NS = 1_000_000_000
"""Stamps that go back by less are of messages out of order."""


class Stamped(NamedTuple, Generic[T]):
    """A message and its stamp [ns]."""

    stamp_ns: int
    message: T


class Synchronizer(Generic[T]):
    """Waits until every topic has a message of the same time.

    A set is complete as soon as each topic has a message within the tolerance of one of the first topic's; of
    several the nearest is taken. What is older than a set that was handed out is forgotten, and no message is
    handed out twice. A first topic's stamp that goes back by `RESTART_NS`, as a bag that loops, starts anew.

    Args:
        topics: the first one's stamps are what the others are compared with.
        tolerance_ns: the largest difference between two stamps of a set; 0 is for equal stamps.
        depth: messages kept of each topic.

    Attributes:
        unmatched: messages forgotten without having been in a set, by topic.
    """

    def __init__(self, topics: Iterable[str], tolerance_ns: int, depth: int = DEPTH) -> None:
        self._tolerance_ns, self._depth = tolerance_ns, depth
        self._queues: dict[str, deque[Stamped[T]]] = {topic: deque() for topic in topics}
        self._used_ns: int | None = None
        self.unmatched: Counter[str] = Counter()

    @property
    def topics(self) -> tuple[str, ...]:
        """Those that a set has."""
        return tuple(self._queues)

    def expect(self, topics: Iterable[str]) -> None:
        """Change which topics a set has; the first one stays."""
        wanted = [*topics]
        for topic in [topic for topic in self._queues if topic not in wanted]:
            del self._queues[topic]
        for topic in wanted:
            self._queues.setdefault(topic, deque())

    def clear(self) -> None:
        """Forget everything that waits."""
        for queue in self._queues.values():
            queue.clear()
        self._used_ns = None

    def add(self, topic: str, stamp_ns: int, message: T) -> dict[str, T] | None:
        """Take a message; returns the newest set that it completes, one message by topic, or None."""
        if topic not in self._queues:
            return None
        first = next(iter(self._queues))
        queue = self._queues[topic]
        if topic == first and self._used_ns is not None and stamp_ns <= self._used_ns - RESTART_NS:
            self.clear()
        queue.append(Stamped(stamp_ns, message))
        if len(queue) > self._depth:
            queue.popleft()
            self.unmatched[topic] += 1
        for candidate in sorted(self._queues[first], key=lambda entry: -entry.stamp_ns):
            found = self._around(candidate)
            if found is not None:
                self._used_ns = candidate.stamp_ns
                self._forget(found)
                return {name: entry.message for name, entry in found.items()}
        return None

    def gap_ns(self, topic: str) -> int | None:
        """How far the nearest that waits is ahead of the first topic's; None where either has none."""
        first = next(iter(self._queues.values()))
        gaps = [entry.stamp_ns - other.stamp_ns for entry in self._queues.get(topic, ()) for other in first]
        return min(gaps, key=abs) if gaps else None

    def _around(self, candidate: Stamped[T]) -> dict[str, Stamped[T]] | None:
        found = {}
        for topic, queue in self._queues.items():
            near = min(queue, key=lambda entry: abs(entry.stamp_ns - candidate.stamp_ns), default=None)
            if near is None or abs(near.stamp_ns - candidate.stamp_ns) > self._tolerance_ns:
                return None
            found[topic] = near
        return found

    def _forget(self, found: dict[str, Stamped[T]]) -> None:
        for topic, used in found.items():
            kept = [entry for entry in self._queues[topic] if entry.stamp_ns > used.stamp_ns]
            self.unmatched[topic] += len(self._queues[topic]) - len(kept) - 1
            self._queues[topic] = deque(kept)
