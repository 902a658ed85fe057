"""The queue of one: the newest item wins and none is lost silently."""

from __future__ import annotations

import threading
import time

from rt_segmentation.runtime.slot import NewestSlot


def test_newest_item_wins_and_put_returns_the_one_it_replaced() -> None:
    slot: NewestSlot[str] = NewestSlot()
    assert slot.put("first") is None
    assert slot.put("second") == "first"
    assert slot.take(0.0) == "second"
    assert slot.take(0.0) is None
    assert slot.put("third") is None


def test_close_returns_what_nobody_took_and_put_then_returns_its_item() -> None:
    slot: NewestSlot[str] = NewestSlot()
    slot.put("left")
    assert slot.close() == "left"
    assert slot.close() is None
    assert slot.put("late") == "late"
    assert slot.take(60.0) is None


def test_take_waits_for_an_item() -> None:
    slot: NewestSlot[str] = NewestSlot()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(slot.take(60.0)))
    taker.start()
    assert slot.put("item") is None
    taker.join(60.0)
    assert taken == ["item"]


def test_close_wakes_a_waiting_taker() -> None:
    slot: NewestSlot[str] = NewestSlot()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(slot.take(3600.0)))
    taker.start()
    slot.close()
    taker.join(60.0)
    assert taken == [None]


def test_each_of_many_items_comes_out_at_one_place_exactly() -> None:
    slot: NewestSlot[int] = NewestSlot()
    producers, each = 4, 2000
    replaced: list[list[int]] = [[] for _ in range(producers)]
    taken: list[list[int]] = [[], []]
    stop = threading.Event()

    def produce(number: int) -> None:
        for item in range(number * each, (number + 1) * each):
            old = slot.put(item)
            if old is not None:
                replaced[number].append(old)
            if item % 50 == 0:
                time.sleep(0)

    def consume(into: list[int]) -> None:
        while not stop.is_set():
            item = slot.take(0.01)
            if item is not None:
                into.append(item)

    consumers = [threading.Thread(target=consume, args=(into,)) for into in taken]
    makers = [threading.Thread(target=produce, args=(number,)) for number in range(producers)]
    for thread in (*consumers, *makers):
        thread.start()
    for thread in makers:
        thread.join()
    stop.set()
    for thread in consumers:
        thread.join()
    left = slot.close()

    found = [item for part in (*replaced, *taken) for item in part] + ([] if left is None else [left])
    assert sorted(found) == list(range(producers * each))
    assert any(taken)
