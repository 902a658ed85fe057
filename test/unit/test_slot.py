"""The queue of one: the newest item wins and none is lost silently."""

from __future__ import annotations

import threading
import time

import pytest

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


def test_items_that_wait_together_are_a_batch() -> None:
    slot: NewestSlot[str] = NewestSlot()
    size = 2
    batches = slot.batches(lambda: size)
    for item in ("a1", "b1", "c1"):
        slot.put(item, item[0])
    assert next(batches) == ["a1", "b1"]
    # Too few for a batch: one at a time, without waiting for more.
    assert next(batches) == ["c1"]
    for item in ("a2", "b2", "c2"):
        slot.put(item, item[0])
    size = 3
    assert next(batches) == ["a2", "b2", "c2"]
    # Of one source there is one item at most.
    slot.put("a3", "a")
    slot.put("a4", "a")
    assert next(batches) == ["a4"]
    slot.put("a5", "a")
    size = 1
    slot.finish()
    assert list(batches) == [["a5"]]


@pytest.mark.parametrize(("lanes", "batch"), [(1, 1), (2, 1), (1, 2)])
def test_each_camera_gets_its_share(lanes: int, batch: int) -> None:
    """A minute of cameras at 60 Hz, 25 Hz and 5 Hz, and one that stops; the engine gives 30 frames a second.

    The clock is the test's: what is said is exact.
    """
    slot: NewestSlot[tuple[str, float]] = NewestSlot()
    rates = {"fast": 60.0, "middle": 25.0, "slow": 5.0, "stops": 30.0}
    capacity_hz, seconds, stopped_at = 30.0, 60.0, 10.0
    arrivals = sorted(
        (number / rate, name)
        for name, rate in rates.items()
        for number in range(int(rate * (stopped_at if name == "stops" else seconds)))
    )
    taken: dict[str, list[float]] = {name: [] for name in rates}
    waited: dict[str, list[float]] = {name: [] for name in rates}
    free_at, waiting = [0.0] * lanes, set[str]()
    batches = slot.batches(lambda: batch)

    def work_until(now: float) -> None:
        while waiting and (begin := max(min(free_at), latest)) < now:
            items = next(batches)
            free_at[free_at.index(min(free_at))] = begin + len(items) * lanes / capacity_hz
            for name, came in items:
                waiting.remove(name)
                taken[name].append(begin)
                waited[name].append(begin - came)

    latest = 0.0
    for came, name in arrivals:
        work_until(came)
        latest = came
        slot.put((name, came), name)
        waiting.add(name)
    latest = seconds
    work_until(seconds + 1.0)

    def rate(name: str, since: float, until: float) -> float:
        return sum(since <= time < until for time in taken[name]) / (until - since)

    # Four want an equal share, 7.5 Hz: the slow one needs less and gets all, the others share what is left.
    for name in ("fast", "middle", "stops"):
        assert rate(name, 1.0, stopped_at) >= 0.97 * capacity_hz / 4
    assert rate("slow", 1.0, stopped_at) == pytest.approx(5.0, rel=0.03)
    # The one that stopped leaves its share to the others.
    for name in ("fast", "middle"):
        assert rate(name, stopped_at + 1, seconds) >= 0.97 * (capacity_hz - 5.0) / 2
    assert rate("slow", stopped_at + 1, seconds) == pytest.approx(5.0, rel=0.03)
    # A frame of the slow one waits for those at work and one of each other camera at most.
    assert max(waited["slow"]) <= (3 + lanes * batch) / capacity_hz + 1e-9
