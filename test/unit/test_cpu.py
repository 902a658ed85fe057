"""What the processor does for others, as a measurement beside them wants to know."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rt_segmentation import cpu


def test_what_others_take_is_all_but_this_process_and_idle_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"

    def passes(user: int, nice: int, idle: int, waiting: int, stolen: int, own_s: float) -> None:
        # Of two cores, on one of which this process may not compute.
        core = f"{user} {nice} 0 {idle} {waiting} 0 0 {stolen} 77 77"
        stat.write_text(f"cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 {core}\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n")
        monkeypatch.setattr(time, "process_time", lambda: own_s)

    monkeypatch.setattr(cpu, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    passes(0, 0, 0, 0, 0, 1.0)
    others = cpu.Others()
    assert others.share() == 0.0
    # In 10 s 4 and 2 were computed and 1 was the host's, of which 3 were this process's.
    passes(400, 200, 200, 100, 100, 4.0)
    assert others.share() == pytest.approx(0.4)
    # Clocks of two kinds never agree quite.
    passes(0, 0, 1000, 0, 0, 1.1)
    assert others.share() == 0.0
    stat.unlink()
    assert others.share() == 0.0 and cpu.Others().share() == 0.0


def test_children_that_ended_are_not_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(cpu, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    stat.write_text("cpu0 0 0 0 0 0 0 0 0 0 0\n")
    monkeypatch.setattr(os, "times", lambda: os.times_result((0.0, 0.0, 5.0, 1.0, 0.0)))
    others = cpu.Others()
    # In 10 s 9 were computed, of which 7 were a child's.
    stat.write_text("cpu0 900 0 0 100 0 0 0 0 0 0\n")
    monkeypatch.setattr(os, "times", lambda: os.times_result((0.0, 0.0, 10.0, 3.0, 0.0)))
    assert others.share() == pytest.approx(0.2)


def test_on_this_machine_it_is_a_share() -> None:
    others = cpu.Others()
    sum(range(300_000))
    assert 0.0 <= others.share() <= 1.0
