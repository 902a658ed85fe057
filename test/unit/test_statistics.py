"""Counts, rates and percentiles of a stream, on a clock that the test sets."""

from __future__ import annotations

import threading

import pytest

from rt_segmentation.runtime.statistics import StreamStatistics


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture()
def clock() -> FakeClock:
    return FakeClock()


def test_a_new_stream_is_empty(clock: FakeClock) -> None:
    snapshot = StreamStatistics(clock=clock).snapshot()
    assert (snapshot.received, snapshot.published, snapshot.lost) == (0, 0, 0)
    assert (snapshot.dropped, snapshot.stages) == ({}, {})
    assert (snapshot.input_hz, snapshot.output_hz) == (0.0, 0.0)
    assert snapshot.since_input_s is None


def test_counts_are_since_the_start_and_rates_over_the_window(clock: FakeClock) -> None:
    statistics = StreamStatistics(window_s=5.0, clock=clock)
    for number in range(100):
        clock.now_s += 0.1
        statistics.frame_received()
        if number % 2:
            statistics.frame_published({"inference": 1.0})
        else:
            statistics.frame_dropped("replaced")
    clock.now_s += 0.05
    snapshot = statistics.snapshot()
    assert (snapshot.received, snapshot.published, snapshot.dropped) == (100, 50, {"replaced": 50})
    assert snapshot.input_hz == pytest.approx(10.0)
    assert snapshot.output_hz == pytest.approx(5.0)
    assert snapshot.since_input_s == pytest.approx(0.05)


def test_frames_that_are_counted_late_belong_to_the_rate_of_when_they_came(clock: FakeClock) -> None:
    """Images that came while an engine was built are counted all together."""
    statistics = StreamStatistics(window_s=5.0, clock=clock)
    came_at = [clock.now_s + 0.1 * number for number in range(1, 101)]
    clock.now_s += 10.05
    for time_s in came_at:
        statistics.frame_received(time_s)
    snapshot = statistics.snapshot()
    assert snapshot.received == 100
    assert snapshot.input_hz == pytest.approx(10.0)
    assert snapshot.since_input_s == pytest.approx(0.05)


def test_rates_of_a_stream_younger_than_the_window(clock: FakeClock) -> None:
    statistics = StreamStatistics(window_s=5.0, clock=clock)
    for _ in range(10):
        clock.now_s += 0.1
        statistics.frame_received()
    assert statistics.snapshot().input_hz == pytest.approx(10.0)


def test_rates_are_over_the_time_in_which_frames_have_come_since_they_are_wanted(clock: FakeClock) -> None:
    statistics = StreamStatistics(window_s=5.0, clock=clock)

    def run(seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            clock.now_s += 0.1
            statistics.frame_received()
            statistics.frame_published({"inference": 1.0})

    run(10.0)
    assert not statistics.snapshot().is_young
    # Nobody wants any for a while, and the first one takes its time.
    clock.now_s += 60.0
    statistics.follow(True)
    clock.now_s += 0.7
    snapshot = statistics.snapshot()
    assert (snapshot.input_hz, snapshot.output_hz, snapshot.is_young) == (0.0, 0.0, True)
    run(1.0)
    snapshot = statistics.snapshot()
    assert snapshot.input_hz == pytest.approx(10.0)
    assert snapshot.output_hz == pytest.approx(10.0, abs=1.2) and snapshot.is_young
    run(6.0)
    snapshot = statistics.snapshot()
    assert snapshot.output_hz == pytest.approx(10.0, abs=0.3) and not snapshot.is_young
    assert snapshot.received == snapshot.published == 170


def test_rates_fall_to_zero_and_percentiles_go_when_nothing_comes(clock: FakeClock) -> None:
    statistics = StreamStatistics(window_s=5.0, clock=clock)
    statistics.frame_received()
    statistics.frame_published({"inference": 7.0})
    clock.now_s += 5.1
    snapshot = statistics.snapshot()
    assert (snapshot.input_hz, snapshot.output_hz, snapshot.stages) == (0.0, 0.0, {})
    assert (snapshot.received, snapshot.published) == (1, 1)
    assert snapshot.since_input_s == pytest.approx(5.1)


def test_percentiles_by_stage_over_the_window(clock: FakeClock) -> None:
    statistics = StreamStatistics(window_s=5.0, clock=clock)
    # An outlier that is older than the window does not count.
    statistics.frame_published({"inference": 1e6})
    clock.now_s += 6.0
    for duration in range(101):
        statistics.frame_published({"inference": float(duration), "decoding": 2.0})
    stages = statistics.snapshot().stages
    inference, decoding = stages["inference"], stages["decoding"]
    assert (inference.p50_ms, inference.p95_ms, inference.max_ms) == pytest.approx((50.0, 95.0, 100.0))
    assert (decoding.p50_ms, decoding.max_ms) == (2.0, 2.0)


def test_losses_and_reasons_add_up(clock: FakeClock) -> None:
    statistics = StreamStatistics(clock=clock)
    statistics.messages_lost(3)
    statistics.messages_lost(4)
    for reason in ("truncated", "replaced", "truncated"):
        statistics.frame_dropped(reason)
    snapshot = statistics.snapshot()
    assert (snapshot.lost, snapshot.dropped) == (7, {"truncated": 2, "replaced": 1})


def test_a_snapshot_stays_as_it_was(clock: FakeClock) -> None:
    statistics = StreamStatistics(clock=clock)
    statistics.frame_dropped("replaced")
    before = statistics.snapshot()
    statistics.frame_dropped("replaced")
    assert before.dropped == {"replaced": 1}


def test_no_count_gets_lost_between_threads() -> None:
    statistics = StreamStatistics()

    def work() -> None:
        for number in range(1000):
            statistics.frame_received()
            if number % 3:
                statistics.frame_published({"inference": 1.0})
            else:
                statistics.frame_dropped("replaced")
            if number % 100 == 0:
                statistics.snapshot()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = statistics.snapshot()
    assert snapshot.received == 4000
    assert snapshot.published + sum(snapshot.dropped.values()) == 4000
