"""How often messages come: pauses of a recording do not count, gaps between bursts do."""

from __future__ import annotations

import itertools

import pytest

from rt_segmentation.bags.rates import rate_hz

S = 1e9


def recorded(*gaps_s: float) -> list[float]:
    return list(itertools.accumulate((gap * S for gap in gaps_s), initial=1.7e18))


def test_a_pause_is_left_out() -> None:
    rate = rate_hz(recorded(*[1 / 30] * 40, 600.0, *[1 / 30] * 40))
    assert rate == pytest.approx(30, rel=1e-4)


@pytest.mark.parametrize("burst", [2, 3, 5])
def test_bursts_are_as_many_as_come_in_all(burst: int) -> None:
    gaps = [*[0.001] * (burst - 1), 2.0] * 100
    assert rate_hz(recorded(*gaps)) == pytest.approx(burst / (2 + 0.001 * (burst - 1)), rel=1e-4)


def test_a_clock_that_was_set_back_is_a_gap_as_others() -> None:
    assert rate_hz(recorded(*[0.1] * 20, -3600.0, *[0.1] * 20)) == pytest.approx(10, rel=1e-4)


def test_too_few_messages_have_no_rate() -> None:
    assert rate_hz([]) is rate_hz([1.0]) is rate_hz([5.0, 5.0, 5.0]) is None
