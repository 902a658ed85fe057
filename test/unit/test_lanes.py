"""Lanes that work concurrently: order, no queue, errors at their place, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from rt_segmentation.runtime.lanes import OrderedLanes
from rt_segmentation.runtime.slot import NewestSlot

PATIENCE_S = 60.0


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    released = [threading.Event() for _ in range(4)]

    def work(item: int) -> int:
        assert released[item].wait(PATIENCE_S)
        # The next one is done before this one can be.
        return item * item

    lanes = iter(OrderedLanes(iter(range(4)), [work, work]))
    released[1].set()
    released[0].set()
    assert next(lanes) == 0
    released[3].set()
    released[2].set()
    assert list(lanes) == [1, 4, 9]


def test_a_slow_reader_finds_one_result_per_lane() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    done = [threading.Event() for _ in range(100)]

    def work(item: int) -> int:
        done[item].set()
        return item

    lanes = OrderedLanes(items(), [work, work])
    assert done[0].wait(PATIENCE_S) and done[1].wait(PATIENCE_S)
    results = iter(lanes)
    assert next(results) == 0 and done[2].wait(PATIENCE_S)
    assert taken == [0, 1, 2]
    lanes.close()
    assert len(taken) <= 4


def test_a_reader_that_waits_holds_up_no_lane() -> None:
    begun = [threading.Event() for _ in range(3)]
    released = [threading.Event() for _ in range(3)]

    def work(item: int) -> int:
        begun[item].set()
        assert released[item].wait(PATIENCE_S)
        return item

    lanes = OrderedLanes(iter(range(3)), [work])
    results = iter(lanes)
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.append(next(results)))
    reader.start()
    released[0].set()
    reader.join(PATIENCE_S)
    # The lane may be at the next item and no further, however slow the reader is with the first.
    assert got == [0] and begun[1].wait(PATIENCE_S)
    released[1].set()
    assert not begun[2].is_set()
    released[2].set()
    assert list(results) == [1, 2]


@pytest.mark.parametrize("lanes", [1, 2])
def test_an_error_is_raised_at_its_place(lanes: int) -> None:
    def work(item: int) -> int:
        if item == 2:
            raise KeyError(item)
        return item

    running = OrderedLanes(iter(range(10)), [work] * lanes)
    found = []
    with pytest.raises(KeyError):
        for result in running:
            found.append(result)
    assert found == [0, 1]
    running.close()


def test_an_error_of_the_items_is_raised_after_their_results() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    running = OrderedLanes(items(), [abs, abs])
    results = iter(running)
    assert next(results) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)
    running.close()


def test_a_slot_that_is_closed_ends_the_lanes_that_wait_for_it() -> None:
    slot: NewestSlot[int] = NewestSlot()
    lanes = iter(OrderedLanes(iter(slot), [abs, abs]))
    slot.put(-1)
    assert next(lanes) == 1
    assert slot.close() == []
    assert list(lanes) == []


def test_a_slot_that_is_finished_gives_its_last_item_to_the_lanes() -> None:
    slot: NewestSlot[int] = NewestSlot()
    slot.put(-3)
    slot.finish()
    assert slot.put(-4) == -4
    assert list(OrderedLanes(iter(slot), [abs, abs])) == [3]


def test_lanes_become_more_and_fewer_while_they_run() -> None:
    slot: NewestSlot[int] = NewestSlot()
    at_work: list[int] = []
    begun, released = threading.Semaphore(0), threading.Semaphore(0)

    def lane(number: int) -> Callable[[int], int]:
        def work(item: int) -> int:
            at_work.append(number)
            begun.release()
            assert released.acquire(timeout=PATIENCE_S)
            return item

        return work

    def fill(items: range) -> None:
        for item in items:
            slot.put(item)
            assert begun.acquire(timeout=PATIENCE_S)

    works = [lane(number) for number in range(3)]
    lanes = OrderedLanes(iter(slot), works[:1])
    results = iter(lanes)
    lanes.resize(works)
    # Three are at work concurrently.
    fill(range(3))
    assert sorted(at_work) == [0, 1, 2]
    lanes.resize(works[:1])
    for _ in range(3):
        released.release()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    # One that is too many may take one more item each.
    for item in range(3, 9):
        fill(range(item, item + 1))
        released.release()
        assert next(results) == item
    assert at_work[-4:] == [0] * 4
    # What has ended can begin again.
    lanes.resize(works[:2])
    fill(range(9, 11))
    assert sorted(at_work[-2:]) == [0, 1]
    slot.finish()
    released.release()
    released.release()
    assert list(results) == [9, 10]
    lanes.close()
