"""Messages of several topics put together by their stamps; bounded, the newest first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT_NS = 3_000_000_000
"""So long depth images wait for their masks, as a network on a busy processor may take."""
KEPT = 64
"""So many wait whatever their age, of a slow camera on a machine that is slower."""
ROOM_BYTES = 256_000_000
"""A second of 1080p float depth at 30 Hz."""
RESTART_NS = 1_000_000_000
"""Stamps that go back by less are of messages out of order."""


@dataclass(frozen=True)
class Stamped(Generic[T]):
    """A message, its stamp [ns] and its size [bytes]."""

    stamp_ns: int
    message: T
    size: int


class Synchronizer(Generic[T]):
    """Waits until every topic has a message of the same time.

    A set is complete as soon as each topic has a message within the tolerance of one of the first topic's; of
    several the nearest is taken. What is older than a set that was handed out is forgotten, and no message is
    handed out twice. A first topic's stamp that goes back by `RESTART_NS`, as a bag that loops, starts anew.

    Args:
        topics: the first one's stamps are what the others are compared with.
        tolerance_ns: the largest difference between two stamps of a set; 0 is for equal stamps.
        kept_ns: how much older than its topic's last message one may be; the tolerance comes on top.
        kept: messages of each topic that are not too old, whatever their age.
        room_bytes: what all that waits may have together; of each topic the last message stays.

    Attributes:
        unmatched: messages forgotten without having been in a set, by topic.
        crowded: those of them for which there was no room.
    """

    def __init__(
        self,
        topics: Iterable[str],
        tolerance_ns: int,
        kept_ns: int = KEPT_NS,
        kept: int = KEPT,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._tolerance_ns, self._kept_ns = tolerance_ns, kept_ns + tolerance_ns
        self._kept, self._room_bytes = kept, room_bytes
        # By stamp, the oldest first.
        self._queues: dict[str, list[Stamped[T]]] = {topic: [] for topic in topics}
        self._bytes = 0
        self._used_ns: int | None = None
        self._topics_changed = False
        # Of each topic the newest stamp that was dropped before its set came.
        self._gone_ns: dict[str, int] = {}
        self._late_ns: dict[tuple[str, str], int] = {}
        self.unmatched: Counter[str] = Counter()
        self.crowded: Counter[str] = Counter()

    @property
    def topics(self) -> tuple[str, ...]:
        """Those that a set has."""
        return tuple(self._queues)

    def expect(self, topics: Iterable[str]) -> None:
        """Change which topics a set has; the first one stays."""
        wanted = [*topics]
        for topic in [topic for topic in self._queues if topic not in wanted]:
            self._bytes -= sum(entry.size for entry in self._queues.pop(topic))
            self._forget_drops(topic)
        for topic in wanted:
            self._queues.setdefault(topic, [])
        self._topics_changed = True

    def clear(self) -> None:
        """Forget everything that waits."""
        for queue in self._queues.values():
            queue.clear()
        self._gone_ns.clear()
        self._late_ns.clear()
        self._bytes, self._used_ns = 0, None

    def add(self, topic: str, stamp_ns: int, message: T, size: int = 0) -> dict[str, T] | None:
        """Take a message; returns the newest set that it completes, one message by topic, or None.

        Args:
            topic: whose message it is; one that no set has is left out.
            stamp_ns: its stamp [ns].
            message: what is handed out.
            size: how much memory it takes [bytes].
        """
        if topic not in self._queues:
            return None
        first = next(iter(self._queues))
        if topic == first and self._used_ns is not None and stamp_ns <= self._used_ns - RESTART_NS:
            self.clear()
        self._bytes += size
        insort(self._queues[topic], Stamped(stamp_ns, message, size), key=_stamp)
        self._drop_old(topic, stamp_ns)
        self._make_room()
        for candidate in reversed(self._candidates(topic, stamp_ns)):
            found = self._around(candidate)
            if found is not None:
                self._used_ns, self._topics_changed = candidate.stamp_ns, False
                self._late_ns.clear()
                self._forget(found)
                return {name: entry.message for name, entry in found.items()}
        self._topics_changed = False
        self._note_late(topic, stamp_ns)
        return None

    def gap_ns(self, topic: str) -> int | None:
        """How far the nearest that waits is ahead of the first topic's; None where either has none."""
        first = next(iter(self._queues.values()))
        near = ((self._nearest(topic, entry.stamp_ns), entry) for entry in first)
        gaps = [found.stamp_ns - entry.stamp_ns for found, entry in near if found is not None]
        return min(gaps, key=abs) if gaps else None

    def late_ns(self, topic: str, other: str) -> int | None:
        """How far a topic's last message was behind the newest of another, which had dropped its own of then.

        One of the two is the first topic. None where nothing was dropped too early, or a set was found since.
        """
        return self._late_ns.get((topic, other))

    def span_ns(self, topic: str) -> int:
        """From the oldest that waits to the newest."""
        queue = self._queues.get(topic)
        return queue[-1].stamp_ns - queue[0].stamp_ns if queue else 0

    def _candidates(self, topic: str, stamp_ns: int) -> list[Stamped[T]]:
        """Those of the first topic whose sets a message may have completed."""
        first = next(iter(self._queues))
        queue = self._queues[first]
        if self._topics_changed:
            return queue
        # Without this message none was complete.
        reach_ns = 0 if topic == first else self._tolerance_ns
        low = bisect_left(queue, stamp_ns - reach_ns, key=_stamp)
        return queue[low : bisect_right(queue, stamp_ns + reach_ns, key=_stamp)]

    def _nearest(self, topic: str, stamp_ns: int) -> Stamped[T] | None:
        queue = self._queues.get(topic, [])
        place = bisect_left(queue, stamp_ns, key=_stamp)
        around = queue[max(place - 1, 0) : place + 1]
        return min(around, key=lambda entry: abs(entry.stamp_ns - stamp_ns), default=None)

    def _around(self, candidate: Stamped[T]) -> dict[str, Stamped[T]] | None:
        found = {}
        for topic in self._queues:
            near = self._nearest(topic, candidate.stamp_ns)
            if near is None or abs(near.stamp_ns - candidate.stamp_ns) > self._tolerance_ns:
                return None
            found[topic] = near
        return found

    def _drop_old(self, topic: str, stamp_ns: int) -> None:
        """Drop what is too far from a topic's last message; what is far ahead is of before a restart."""
        queue = self._queues[topic]
        if queue[-1].stamp_ns > stamp_ns + self._kept_ns:
            self._drop(topic, bisect_right(queue, stamp_ns, key=_stamp), len(queue))
            self._forget_drops(topic)
        old = min(bisect_left(queue, stamp_ns - self._kept_ns, key=_stamp), len(queue) - self._kept)
        if old > 0:
            self._gone_ns[topic] = queue[old - 1].stamp_ns
            self._drop(topic, 0, old)

    def _make_room(self) -> None:
        while self._bytes > self._room_bytes:
            heads = [(queue[0].stamp_ns, topic) for topic, queue in self._queues.items() if len(queue) > 1]
            if not heads:
                return
            stamp_ns, topic = min(heads)
            self._gone_ns[topic] = stamp_ns
            self._drop(topic, 0, 1)
            self.crowded[topic] += 1

    def _drop(self, topic: str, begin: int, end: int) -> None:
        queue = self._queues[topic]
        self._bytes -= sum(entry.size for entry in queue[begin:end])
        del queue[begin:end]
        self.unmatched[topic] += end - begin

    def _note_late(self, topic: str, stamp_ns: int) -> None:
        first = next(iter(self._queues))
        for other, queue in self._queues.items():
            if (topic == first) == (other == first):
                continue
            gone_ns = self._gone_ns.get(other)
            kept = bool(queue) and queue[0].stamp_ns <= stamp_ns + self._tolerance_ns
            if gone_ns is None or gone_ns < stamp_ns - self._tolerance_ns or kept:
                self._late_ns.pop((topic, other), None)
            else:
                self._late_ns[topic, other] = (queue[-1].stamp_ns if queue else gone_ns) - stamp_ns

    def _forget_drops(self, topic: str) -> None:
        self._gone_ns.pop(topic, None)
        self._late_ns = {pair: late for pair, late in self._late_ns.items() if topic not in pair}

    def _forget(self, found: dict[str, Stamped[T]]) -> None:
        for topic, used in found.items():
            queue = self._queues[topic]
            self._drop(topic, 0, bisect_right(queue, used.stamp_ns, key=_stamp))
            self.unmatched[topic] -= 1


def _stamp(entry: Stamped[T]) -> int:
    return entry.stamp_ns
