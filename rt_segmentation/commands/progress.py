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
