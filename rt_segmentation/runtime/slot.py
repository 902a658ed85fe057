"""A queue of one: the newest item wins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestSlot(Generic[T]):
    """Hands items from one thread to another; an item that was not taken in time is replaced.

    Between `put` and `take` no item is ever lost silently: `put` gives back the one it replaces, `close` the
    one that was left. Iterating over it takes items until it is closed.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Store an item; returns the one it replaced, or the item itself when the slot is closed."""
        with self._condition:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._condition.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """Take the item out, waiting at most `timeout_s` seconds; None without one, or when closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            return item

    def __iter__(self) -> Iterator[T]:
        """Take items until it is closed."""
        while (item := self.take()) is not None:
            yield item

    def finish(self) -> None:
        """Take no more items in; the one that is left can be taken still."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def close(self) -> T | None:
        """Wake the taker for good; returns the item that nobody took."""
        with self._condition:
            self.finish()
            left, self._item = self._item, None
            return left
