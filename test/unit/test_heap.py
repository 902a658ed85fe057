"""Threads share a few heaps, and what was freed goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rt_segmentation.runtime.heap import HEAPS

# glibc tells its arenas, the heaps of its threads, as XML.
COUNT = """
import ctypes, os, sys, threading
from rt_segmentation.runtime.heap import share_heaps
share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(12)
def allocate():
    together.wait()
    libc.malloc(100)
threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
assert libc.malloc_info(0, file) == 0
libc.fclose(file)
"""


def heaps(path: Path, **environment: str) -> int:
    """Of a process in which a dozen threads allocate."""
    kept = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
    subprocess.run([sys.executable, "-c", COUNT, path], check=True, env={**kept, **environment})
    return path.read_text().count("<heap ")


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="another C library than glibc")
def test_threads_share_a_few_heaps(tmp_path: Path) -> None:
    assert heaps(tmp_path / "ours.xml") <= HEAPS
    # What the user says counts: more than ours, by a dozen threads.
    assert heaps(tmp_path / "theirs.xml", MALLOC_ARENA_MAX="8") > HEAPS
