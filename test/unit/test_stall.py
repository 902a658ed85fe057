"""Work that hangs is told from work that goes on, and from a process that was stopped."""

from __future__ import annotations

from rt_segmentation.runtime.stall import Stall


def test_only_what_stays_at_work_grows_old() -> None:
    now = 0.0
    stall = Stall(lambda: now)
    assert stall.look([]) == 0.0
    seen = []
    for number in range(5):
        now += 0.5
        # Another piece of work at each look, beside one that hangs from the third on.
        seen.append(stall.look([number, *(["hung"] if number >= 2 else [])]))
    assert seen == [0.0, 0.0, 0.0, 0.5, 1.0] and stall.oldest == "hung"
    assert stall.look([]) == 0.0 and stall.oldest is None
    # It is a new one when it comes again.
    assert stall.look(["hung"]) == 0.0


def test_time_that_is_excused_or_in_which_nobody_could_look_does_not_count() -> None:
    now = 0.0
    stall = Stall(lambda: now)
    stall.look(["frame"])
    now = 100.0
    assert stall.look(["frame"], is_excused=True) == 0.0
    now = 100.5
    assert stall.look(["frame"]) == 0.5
    # Stopped for an hour.
    now = 3700.0
    assert stall.look(["frame"]) == 1.5
