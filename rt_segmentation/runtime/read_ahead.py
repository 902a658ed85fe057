"""An iterable read in a thread of its own, some items ahead of its user."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.1


class ReadAhead(Generic[T]):
    """Reads an iterable in a thread, so that neither it nor its user waits for the other.

    Iterate over it, or ask `take` where nothing may wait. Both raise what reading the items raised.

    Args:
        items: none of them None; closed by its thread at the end, if it has `close`.
        depth: items kept ready at most.
        stop: ends both sides when it is set.
        waited: told how long an item had to wait for its place among those, if it had to [ns].

    Attributes:
        over: whether the last item was taken.
    """

    def __init__(
        self,
        items: Iterable[T],
        depth: int,
        stop: threading.Event | None = None,
        waited: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.over = False
        self._items, self._waited = items, waited
        self._stop, self._closed = stop or threading.Event(), threading.Event()
        # The last entry has no item: it is the end, or an error.
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float = 0.0) -> T | None:
        """The next item; None where none is ready in time, or they are over."""
        try:
            item, error = self._ready.get(timeout=timeout_s) if timeout_s else self._ready.get_nowait()
        except queue.Empty:
            return None
        self.over = item is None
        if error is not None:
            raise error
        return item

    def __iter__(self) -> Generator[T, None, None]:
        """Yield the items; closes this in the end."""
        try:
            while not self.over and not self._ended():
                item = self.take(POLL_S)
                if item is not None:
                    yield item
        finally:
            self.close()

    def close(self, timeout_s: float | None = None) -> None:
        """Stop reading.

        Args:
            timeout_s: how long to wait for the item being read [s]; None without a limit.
        """
        self._closed.set()
        self._thread.join(timeout_s)

    def _ended(self) -> bool:
        return self._closed.is_set() or self._stop.is_set()

    def _read(self) -> None:
        try:
            for item in self._items:
                self._put((item, None))
                if self._ended():
                    return
            self._put((None, None))
        # Whatever it is belongs to the one who takes the items.
        except BaseException as error:
            self._put((None, error))
        finally:
            # A generator may hold a thread of its own.
            getattr(self._items, "close", lambda: None)()

    def _put(self, entry: tuple[T | None, BaseException | None]) -> None:
        try:
            return self._ready.put_nowait(entry)
        except queue.Full:
            began_ns = time.perf_counter_ns()
        while not self._ended():
            try:
                self._ready.put(entry, timeout=POLL_S)
            except queue.Full:
                continue
            return self._waited(time.perf_counter_ns() - began_ns)
