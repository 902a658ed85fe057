"""How far a command is, on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
BAR_WIDTH = 30
INTERVAL_S = 0.1


class TimeBar:
    """How much of a given time is over, and what is done: a bar on a terminal, else a line for each thing.

    Args:
        seconds: that are given.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._started = seconds, time.monotonic()

    def __call__(self, text: str) -> None:
        """Say what was done."""
        over = time.monotonic() - self._started
        if not sys.stderr.isatty():
            print(f"{over:.0f} of {self._seconds:.0f} s: {text}", file=sys.stderr, flush=True)
            return
        bar = "█" * min(BAR_WIDTH, int(over * BAR_WIDTH / max(self._seconds, 1e-3)))
        # Longer lines would wrap and stay.
        width = max(10, shutil.get_terminal_size().columns - BAR_WIDTH - 20)
        line = f"{bar:{BAR_WIDTH}} {over:.0f} of {self._seconds:.0f} s {text[:width]:{width}}"
        print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if sys.stderr.isatty():
            print(file=sys.stderr)


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """Pass items on and, where stderr is a terminal, draw a bar with the time that is left.

    Args:
        items: what to pass on.
        total: how many there are; 0 is unknown, and they are counted without a bar.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    started = drawn = time.monotonic()
    for done, item in enumerate(items, 1):
        now = time.monotonic()
        if now - drawn >= INTERVAL_S or done == total:
            drawn = now
            if not total:
                print(
                    f"\r{done}, {done / (now - started):.1f} per second ", end="", file=sys.stderr, flush=True
                )
                yield item
                continue
            bar = "█" * (done * BAR_WIDTH // max(total, 1))
            left = (now - started) / done * (total - done)
            print(
                f"\r{bar:{BAR_WIDTH}} {done}/{total}, {left:.0f} s left ", end="", file=sys.stderr, flush=True
            )
        yield item
    print(file=sys.stderr)
