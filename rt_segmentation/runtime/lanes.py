"""Several items worked at concurrently, with their results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Place(NamedTuple, Generic[R]):
    """The place of an item in the order, and whether its result has been taken away."""

    result: Future[R]
    taken: threading.Event


class OrderedLanes(Generic[T, R]):
    """Works at items on several threads, the lanes; iterating over it gives the results in the items' order.

    The one thread that iterates owns what happens to the results. A lane takes its next item when its last
    result has been taken away: a slow reader finds one result per lane waiting, never a queue.

    Args:
        items: may wait for the next one; its end ends the lanes. Read by one lane at a time.
        works: for each lane, what makes a result of an item.
        name: of the threads.
    """

    def __init__(self, items: Iterator[T], works: Sequence[Callable[[T], R]], name: str = "lane") -> None:
        self._items = items
        self._closed = threading.Event()
        # Whoever holds it takes an item and its place: places are in the order of the items.
        self._taking = threading.Lock()
        # A lane that has ended puts None.
        self._places: SimpleQueue[_Place[R] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True) for work in works
        ]
        # Of the thread that iterates.
        self._running = len(self._threads)
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Generator[R, None, None]:
        """Yield the results; only one thread may iterate.

        Raises:
            BaseException: what `items` or a work raised, at its place in the order.
        """
        for place in self._order():
            place.taken.set()
            yield place.result.result()

    def close(self) -> None:
        """End the lanes, and wait for the items at work, whose results are lost; of the thread that iterates.

        Where `items` may wait for ever, end it before.
        """
        self._closed.set()
        for place in self._order():
            place.taken.set()
        for thread in self._threads:
            thread.join()

    def _order(self) -> Iterator[_Place[R]]:
        while self._running:
            place = self._places.get()
            if place is None:
                self._running -= 1
                continue
            # It comes when its result does; an error is a result.
            place.result.exception()
            yield place

    def _run(self, work: Callable[[T], R]) -> None:
        while not self._closed.is_set():
            place = _Place[R](Future(), threading.Event())
            try:
                with self._taking:
                    item = next(self._items)
                    self._places.put(place)
            except StopIteration:
                break
            except BaseException as error:
                place.result.set_exception(error)
                self._places.put(place)
                break
            try:
                place.result.set_result(work(item))
            except BaseException as error:
                place.result.set_exception(error)
            # Not a reference longer than needed: an item may hold a whole image.
            del item
            place.taken.wait()
        self._places.put(None)
