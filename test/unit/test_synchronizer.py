"""Sets of messages by their stamps."""

from __future__ import annotations

import pytest

from rt_segmentation.runtime.synchronizer import Synchronizer

MS = 1_000_000


def fill(sync: Synchronizer[str], *messages: tuple[str, int]) -> list[dict[str, str]]:
    sets = (sync.add(topic, ms * MS, f"{topic}{ms}") for topic, ms in messages)
    return [found for found in sets if found is not None]


def test_equal_stamps_make_a_set_in_any_order_of_arrival() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth", "color"), 0)
    sets = fill(sync, ("depth", 1), ("label", 1), ("label", 2), ("color", 1), ("color", 2), ("depth", 2))
    assert sets == [
        {"label": "label1", "depth": "depth1", "color": "color1"},
        {"label": "label2", "depth": "depth2", "color": "color2"},
    ]
    assert not any(sync.unmatched.values())


def test_with_no_tolerance_a_nanosecond_is_too_much() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0)
    assert sync.add("label", 100, "a") is None
    assert sync.add("depth", 101, "b") is None
    assert sync.gap_ns("depth") == 1


def test_the_nearest_within_the_tolerance_is_taken_and_only_once() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "points"), 50 * MS)
    sets = fill(sync, ("points", 0), ("points", 90), ("points", 130), ("label", 100), ("label", 101))
    assert sets == [{"label": "label100", "points": "points90"}, {"label": "label101", "points": "points130"}]
    assert sync.unmatched["points"] == 1


def test_the_newest_possible_set_is_made_and_what_is_older_is_forgotten() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0)
    assert fill(sync, ("label", 1), ("label", 2), ("label", 3), ("depth", 2)) == [
        {"label": "label2", "depth": "depth2"}
    ]
    assert fill(sync, ("depth", 1), ("depth", 3)) == [{"label": "label3", "depth": "depth3"}]
    assert sync.unmatched == {"label": 1, "depth": 1}


def test_a_topic_that_never_comes_keeps_what_is_young_of_the_others() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0, kept_ns=3 * MS, kept=0)
    assert not fill(sync, *(("label", ms) for ms in range(10)))
    assert sync.unmatched["label"] == 6 and sync.span_ns("label") == 3 * MS
    assert sync.gap_ns("depth") is None
    assert not fill(sync, ("depth", 5))
    assert fill(sync, ("depth", 7)) == [{"label": "label7", "depth": "depth7"}]


def test_masks_of_a_fast_camera_that_come_a_second_late_find_their_depth() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS)
    found = []
    for number in range(400):
        found += fill(sync, ("depth", 11 * number))
        if number >= 90:
            found += fill(sync, ("label", 11 * (number - 90)))
    assert len(found) == 310


def test_what_waits_has_its_room_and_the_newest_of_each_topic_stays() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0, room_bytes=100)
    for ms in range(20):
        assert sync.add("depth", ms * MS, f"depth{ms}", 30) is None
    assert sync.crowded == {"depth": 17} and sync.span_ns("depth") == 2 * MS
    # A mask takes a place of depth, the oldest one's.
    assert sync.add("label", 16 * MS, "label16", 5) is None
    assert sync.add("label", 18 * MS, "label18", 5) == {"label": "label18", "depth": "depth18"}
    # What was handed out takes none any more.
    sync.add("depth", 20 * MS, "depth20", 30)
    assert sync.crowded == {"depth": 17}
    # One that is larger than the room is still seen.
    assert sync.add("depth", 21 * MS, "depth21", 1000) is None
    assert sync.add("label", 21 * MS, "label21", 5) == {"label": "label21", "depth": "depth21"}


def test_topics_that_are_no_longer_wanted_give_their_room_back() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth", "color"), 0, room_bytes=100)
    for ms in range(3):
        sync.add("color", ms * MS, f"color{ms}", 30)
    sync.expect(("label", "depth"))
    for ms in range(3):
        sync.add("depth", ms * MS, f"depth{ms}", 30)
    sync.clear()
    for ms in range(3):
        sync.add("depth", ms * MS, f"depth{ms}", 30)
    assert not sync.crowded


def test_depth_that_was_dropped_before_its_mask_came_is_told_from_stamps_apart() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS, kept=10)
    fill(sync, *(("depth", 100 * number) for number in range(50)))
    # The depth of 900 ms came, and was dropped; nothing says that stamps differ.
    assert not fill(sync, ("label", 900))
    assert sync.late_ns("label", "depth") == 4000 * MS and sync.late_ns("depth", "label") is None
    # Of this one depth is kept, and its stamp is in between.
    assert not fill(sync, ("label", 4350))
    assert sync.late_ns("label", "depth") is None and sync.gap_ns("depth") == -50 * MS
    assert not fill(sync, ("label", 950))
    assert fill(sync, ("label", 4400)) and sync.late_ns("label", "depth") is None


def test_the_last_of_a_slow_topic_wait_whatever_their_age() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0, kept=10)
    assert not fill(sync, *(("depth", 1000 * number) for number in range(30)))
    assert sync.unmatched["depth"] == 20 and not fill(sync, ("label", 19_000))
    assert fill(sync, ("label", 20_000)) == [{"label": "label20000", "depth": "depth20000"}]


def test_masks_that_were_dropped_before_their_depth_came_are_told() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS, kept=10)
    assert not fill(sync, *(("label", 100 * number) for number in range(50)), ("depth", 1000))
    assert sync.late_ns("depth", "label") == 3900 * MS and sync.late_ns("label", "depth") is None


def test_depth_that_the_room_was_too_small_for_was_dropped_too_early() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS, room_bytes=100)
    for number in range(20):
        sync.add("depth", 100 * number * MS, "depth", 30)
    assert sync.add("label", 1000 * MS, "label", 5) is None
    assert sync.late_ns("label", "depth") == 900 * MS and sync.crowded["depth"] > 0


@pytest.mark.parametrize("back_ms", [2000, 100_000])
def test_a_bag_that_starts_again_is_heard_though_nothing_ever_matched(back_ms: int) -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS)
    late = 100_000
    fill(
        sync,
        *(
            (topic, late + 100 * n + (50 if topic == "depth" else 0))
            for n in range(50)
            for topic in sync.topics
        ),
    )
    begin = late + 4900 - back_ms
    sets = fill(sync, *((topic, begin + 100 * n + 7) for n in range(80) for topic in ("depth", "label")))
    assert len(sets) > 70 and sets[-1] == {name: f"{name}{begin + 7907}" for name in ("label", "depth")}
    assert sync.late_ns("label", "depth") is None


def test_one_stamp_from_the_future_costs_little() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS)
    messages = [
        ("depth", 100),
        ("depth", 10**9),
        ("depth", 200),
        ("label", 200),
        ("depth", 300),
        ("label", 300),
    ]
    assert [found["depth"] for found in fill(sync, *messages)] == ["depth200", "depth300"]


def test_a_bag_that_starts_again_is_heard_again() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS)
    assert len(fill(sync, ("depth", 1900), ("label", 1900), ("depth", 1950))) == 1
    assert fill(sync, ("label", 10), ("depth", 10)) == [{"label": "label10", "depth": "depth10"}]


def test_one_mask_out_of_order_loses_no_depth_that_waits() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 5 * MS)
    waiting = [("depth", ms) for ms in range(0, 300, 33)]
    assert len(fill(sync, *waiting, ("label", 99))) == 1
    sets = fill(sync, ("label", 33), ("label", 132), ("label", 165))
    assert [each["depth"] for each in sets] == ["depth132", "depth165"]


def test_masks_that_come_two_seconds_late_find_their_depth() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0)
    found = []
    for number in range(150):
        found += fill(sync, ("depth", 33 * number))
        if number >= 60:
            found += fill(sync, ("label", 33 * (number - 60)))
    assert [each["label"] for each in found] == [f"label{33 * number}" for number in range(90)]


def test_the_topics_of_a_set_may_change() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0)
    sync.expect(("label", "depth", "confidence"))
    assert not fill(sync, ("label", 1), ("depth", 1))
    sync.expect(("label", "depth"))
    assert not fill(sync, ("confidence", 1))
    assert fill(sync, ("label", 2), ("depth", 2)) == [
        {"label": "label1", "depth": "depth1"},
        {"label": "label2", "depth": "depth2"},
    ]


@pytest.mark.parametrize("ahead_ms", [-300, 40])
def test_how_far_apart_the_stamps_are(ahead_ms: int) -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 20 * MS)
    assert not fill(sync, ("label", 1000), ("label", 0), ("depth", 1000 + ahead_ms))
    assert sync.gap_ns("depth") == ahead_ms * MS
