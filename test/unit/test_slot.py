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
    assert slot.close() == ["left"]
    assert slot.close() == []
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

    found = [item for part in (*replaced, *taken, left) for item in part]
    assert sorted(found) == list(range(producers * each))
    assert any(taken)


def test_sources_have_their_turns() -> None:
    slot: NewestSlot[str] = NewestSlot()
    assert slot.put("f1", "fast") is None
    assert slot.put("s1", "slow") is None
    assert slot.put("f2", "fast") == "f1"
    taken = []
    # The fast one always has an item, the slow one now and then.
    for number in range(3, 9):
        taken.append(slot.take(0.0))
        slot.put(f"f{number}", "fast")
        if number == 5:
            slot.put("s2", "slow")
    assert taken == ["s1", "f3", "f4", "s2", "f6", "f7"]
    # One that stops holds nobody up, and none is forgotten.
    slot.put("new", "third")
    assert [slot.take(0.0), slot.take(0.0), slot.take(0.0)] == ["new", "f8", None]
    slot.put("a", "fast")
    slot.put("b", "slow")
    assert slot.close() == ["a", "b"]
