"""A queue of one for each source: the newest item wins, and sources have their turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestSlot(Generic[T]):
    """Hands items from one thread to another; an item that was not taken in time is replaced.

    Between `put` and `take` no item is ever lost silently: `put` gives back the one it replaces, `close` what
    was left. Of several sources each has a place of its own, and the one whose last turn is the longest ago
    is next: one that is fast starves none that is slow.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: dict[Hashable, T] = {}
        self._turns: dict[Hashable, int] = {}
        self._turn = 0
        self._closed = False

    def put(self, item: T, source: Hashable = None) -> T | None:
        """Store an item; returns what it replaced of its source, or the item itself if it is closed."""
        with self._condition:
            if self._closed:
                return item
            replaced = self._items.pop(source, None)
            self._items[source] = item
            self._condition.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """Take an item out, waiting at most `timeout_s` seconds; None without one, or when closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._next() if self._items else None

    def __iter__(self) -> Iterator[T]:
        """Take items until it is closed."""
        while (item := self.take()) is not None:
            yield item

    def batches(self, size: Callable[[], int]) -> Iterator[list[T]]:
        """Take items until it is closed: so many of as many sources where they wait together, else one.

        Args:
            size: asked before each.
        """
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                wanted = size()
                batch = [self._next() for _ in range(wanted if len(self._items) >= wanted else 1)]
            yield batch

    def _next(self) -> T:
        """Of the source whose last turn is the longest ago."""
        source = min(self._items, key=lambda source: self._turns.get(source, 0))
        self._turn += 1
        self._turns[source] = self._turn
        return self._items.pop(source)

    def finish(self) -> None:
        """Take no more items in; those that are left can be taken still."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def close(self) -> list[T]:
        """Wake the taker for good; returns the items that nobody took."""
        with self._condition:
            self.finish()
            left = list(self._items.values())
            self._items.clear()
            return left
