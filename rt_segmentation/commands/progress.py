"""How far a command is, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
BAR_WIDTH = 30
INTERVAL_S = 0.1


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """Pass items on and, where stderr is a terminal, draw a bar with the time that is left."""
    if not sys.stderr.isatty():
        yield from items
        return
    started = drawn = time.monotonic()
    for done, item in enumerate(items, 1):
        now = time.monotonic()
        if now - drawn >= INTERVAL_S or done == total:
            drawn = now
            bar = "█" * (done * BAR_WIDTH // max(total, 1))
            left = (now - started) / done * (total - done)
            print(
                f"\r{bar:{BAR_WIDTH}} {done}/{total}, {left:.0f} s left ", end="", file=sys.stderr, flush=True
            )
        yield item
    print(file=sys.stderr)
