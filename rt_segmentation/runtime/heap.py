"""The C library's heaps in a process that runs for weeks."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os

HEAPS = 2
"""So many for all threads."""

_M_ARENA_MAX = -8
"""glibc's malloc.h."""


def share_heaps() -> None:
    """Have the threads that begin from now on share a few heaps; glibc has up to 8 for each core.

    What a network that was replaced had lies between what others still need, in as many heaps: a node that
    changed its model 45 times had grown from 450 to 550 MB, and with shared heaps not at all. A number that
    the user sets by `MALLOC_ARENA_MAX` or `GLIBC_TUNABLES` stays.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, HEAPS)


def give_memory_back() -> None:
    """What a build used, to the system: the C library keeps it, above all with the launch file's settings."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
