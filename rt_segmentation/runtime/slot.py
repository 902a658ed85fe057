"""A queue of one: the newest item wins."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestSlot(Generic[T]):
    """Hands items from one thread to another; an item that was not taken in time is replaced.

    Between `put` and `take` no item is ever lost silently: `put` gives back the one it replaces, `close` the
    one that was left.
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

    def take(self, timeout_s: float) -> T | None:
        """Take the item out, waiting at most `timeout_s` seconds; None without one, or when closed."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while self._item is None and not self._closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return None
                self._condition.wait(remaining)
            item, self._item = self._item, None
            return item

    def close(self) -> T | None:
        """Wake the taker for good; returns the item that nobody took."""
        with self._condition:
            self._closed = True
            left, self._item = self._item, None
            self._condition.notify_all()
            return left
