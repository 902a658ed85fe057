"""What a process holds of the machine: memory, threads, open files, shared memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Footprint(NamedTuple):
    """Of one moment.

    Attributes:
        resident_mb: memory [MB].
        threads, files, shared: how many there are; of shared memory, mappings of files in /dev/shm.
    """

    resident_mb: float
    threads: int
    files: int
    shared: int

    @staticmethod
    def of(pid: int) -> Footprint:
        """Of a process that runs.

        Raises:
            OSError: it has ended.
        """
        folder = Path(f"/proc/{pid}")
        pages = int((folder / "statm").read_text().split()[1])
        maps = (folder / "maps").read_text().splitlines()
        return Footprint(
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            len(os.listdir(folder / "task")),
            len(os.listdir(folder / "fd")),
            len({line.split()[-1] for line in maps if "/dev/shm/" in line}),
        )

    def __str__(self) -> str:
        """As a part of a line that a test prints."""
        return (
            f"{self.resident_mb:.1f} MB, {self.threads} threads, {self.files} files,"
            f" {self.shared} of shared memory"
        )
