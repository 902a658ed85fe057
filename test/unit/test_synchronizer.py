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


def test_a_topic_that_never_comes_keeps_a_bounded_number_of_the_others() -> None:
    sync: Synchronizer[str] = Synchronizer(("label", "depth"), 0, depth=3)
    assert not fill(sync, *(("label", ms) for ms in range(10)))
    assert sync.unmatched["label"] == 7
    assert sync.gap_ns("depth") is None
    assert not fill(sync, ("depth", 6))
    assert fill(sync, ("depth", 7)) == [{"label": "label7", "depth": "depth7"}]


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
