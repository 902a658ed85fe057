"""What a process has in shared memory, seen from outside."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

# The lock of one of Fast DDS's segments in shared memory, which its owner holds as long as it lives.
SEGMENT_LOCK = re.compile(r"(/dev/shm/fast(?:dds|rtps)_[0-9a-f]{16})_el")


class Segments:
    """The shared memory of a process, as seen whenever looked at.

    A process maps others' segments as well, even another domain's, as the ports of shared memory are numbered
    from 7000 whatever the domain; but it keeps the locks of its own segments alone.
    """

    def __init__(self, process: Any) -> None:
        self._files = Path(f"/proc/{process.pid}/fd")
        self.seen: set[str] = set()

    def look(self) -> None:
        with contextlib.suppress(OSError):
            for file in self._files.iterdir():
                with contextlib.suppress(OSError):
                    if found := SEGMENT_LOCK.fullmatch(os.readlink(file)):
                        self.seen.add(found[1])

    @property
    def left(self) -> list[str]:
        """Those that are there still."""
        return sorted(path for path in self.seen if os.path.exists(path))

    def wait_until_removed(self, within_s: float = 30.0) -> None:
        """Wait until none is there; fails with those that stay."""
        over = time.monotonic() + within_s
        while self.left and time.monotonic() < over:
            time.sleep(0.02)
        assert self.left == []
