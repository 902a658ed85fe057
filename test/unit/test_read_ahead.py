"""An iterable read in a thread of its own, ahead of its user."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from rt_segmentation.runtime.read_ahead import ReadAhead

PATIENCE_S = 60.0


def test_an_error_in_the_thread_is_raised_where_its_items_are_used() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in ReadAhead(items(), 2):
            found.append(item)
    assert found == [1]


def test_the_thread_is_only_so_far_ahead_and_ends_with_its_user() -> None:
    made, closed = [], threading.Event()

    def items() -> Iterator[int]:
        try:
            for i in range(1000):
                made.append(i)
                yield i
        finally:
            closed.set()

    stream = iter(ReadAhead(items(), 3))
    assert [next(stream) for _ in range(5)] == list(range(5))
    stream.close()
    assert closed.is_set() and len(made) <= 5 + 3 + 1


def test_stop_ends_the_reader_and_its_user() -> None:
    stop = threading.Event()
    found = []
    for item in ReadAhead(iter(int, 1), 1, stop):
        found.append(item)
        if len(found) == 3:
            stop.set()
    assert found == [0, 0, 0]


def test_take_does_not_wait_and_says_when_it_is_over() -> None:
    go = threading.Event()

    def items() -> Iterator[str]:
        assert go.wait(PATIENCE_S)
        yield "item"

    pictures = ReadAhead(items(), 4)
    assert pictures.take() is None and not pictures.over
    go.set()
    assert pictures.take(PATIENCE_S) == "item" and not pictures.over
    assert pictures.take(PATIENCE_S) is None and pictures.over
    pictures.close()


def test_it_tells_how_long_an_item_waited_for_its_place() -> None:
    waited: list[int] = []
    told = threading.Event()

    def wait(duration_ns: int) -> None:
        waited.append(duration_ns)
        told.set()

    stream = iter(ReadAhead(range(3), 1, waited=wait))
    assert next(stream) == 0
    assert list(stream) == [1, 2]
    assert all(duration_ns > 0 for duration_ns in waited)
