"""Several items worked at concurrently, with their results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Place(Generic[R]):
    """The place of an item in the order.

    Attributes:
        result: of the item.
        awaited: set once the reader waits for nothing but this result.
        taken: set once it has taken it away.
    """

    result: Future[R]
    awaited: threading.Event
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
        self._name = name
        # Whoever holds it takes an item and its place: places are in the order of the items.
        self._taking = threading.Lock()
        # A lane that has ended puts None.
        self._places: SimpleQueue[_Place[R] | None] = SimpleQueue()
        # Guards all below: how many lanes there are to be, which were not told to end, and how many have not.
        self._changing = threading.Lock()
        self._wanted = 0
        self._going_on: set[int] = set()
        self._running = 0
        self._threads: dict[int, threading.Thread] = {}
        self.resize(works)

    def resize(self, works: Sequence[Callable[[T], R]]) -> None:
        """Go on with so many lanes; one too many ends after its next item, the others keep their works."""
        with self._changing:
            self._wanted = len(works)
            for number, work in enumerate(works):
                if number not in self._going_on:
                    self._going_on.add(number)
                    thread = threading.Thread(
                        target=self._run, args=(number, work), name=self._name, daemon=True
                    )
                    self._threads[number] = thread
                    self._running += 1
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
        for thread in self._threads.values():
            thread.join()

    def _order(self) -> Iterator[_Place[R]]:
        while self._running:
            place = self._places.get()
            if place is None:
                with self._changing:
                    self._running -= 1
                continue
            place.awaited.set()
            # It comes when its result does; an error is a result.
            place.result.exception()
            yield place

    def _ends(self, number: int) -> bool:
        with self._changing:
            if not self._closed.is_set() and number < self._wanted:
                return False
            self._going_on.remove(number)
            return True

    def _run(self, number: int, work: Callable[[T], R]) -> None:
        while not self._ends(number):
            place = _Place[R](Future(), threading.Event(), threading.Event())
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
            # Nor a moment longer than needed, as two changes of threads take: a reader that waits takes it.
            if not place.awaited.is_set():
                place.taken.wait()
        self._places.put(None)
