"""Of a stream so many items pass per second, evenly."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from rt_segmentation.runtime.throttle import Throttle


def passed(times: list[float], rate_hz: float) -> list[float]:
    now = times[0]
    throttle = Throttle(lambda: now)
    found = []
    for now in times:
        if throttle.passes(rate_hz):
            found.append(now)
    return found


def stream(rate_hz: float, duration_s: float, jitter: float = 0.0) -> list[float]:
    """Arrivals whose periods are kept, each early or late by up to a share of its period."""
    random.seed(1)
    count = int(rate_hz * duration_s)
    return [(number + jitter * random.uniform(-1, 1)) / rate_hz + 5.0 for number in range(count)]


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize(("rate", "limit"), [(30, 10), (30, 20), (60, 25), (100, 7), (30, 0.5)])
def test_what_is_too_much_does_not_pass(rate: float, limit: float, jitter: float) -> None:
    found = passed(stream(rate, 60, jitter), limit)
    assert len(found) == pytest.approx(60 * limit, abs=2)
    # Evenly: none waits for longer than its period and two of the camera's.
    assert max(b - a for a, b in pairwise(found)) < 1 / limit + 2 / rate


@pytest.mark.parametrize("limit", [0.0, 30.0, 31.0])
def test_a_camera_below_the_limit_loses_nothing(limit: float) -> None:
    times = stream(30, 60, 0.1)
    assert len(passed(times, limit)) == pytest.approx(len(times), abs=2 if limit else 0)


def test_silence_is_not_saved_up() -> None:
    times = [5.0, *(100.0 + number / 100 for number in range(100))]
    found = passed(times, 10)
    assert len([time for time in found if time >= 100]) == pytest.approx(10, abs=1)


def test_a_limit_that_changes_counts_at_once() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    assert throttle.passes(0.01)
    now = 0.2
    assert not throttle.passes(0.01)
    assert not throttle.passes(10.0)
    now = 0.3
    assert throttle.passes(10.0)
    assert throttle.passes(0.0)
