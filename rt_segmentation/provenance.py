"""Which state of the package made a result, and on which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path


def commit() -> str:
    """The source tree's commit, '-dirty' if changed since; 'unknown' without git or outside a repository.

    Changed documents do not count: measurements are written there, one after the other.
    """
    try:
        described = _git("describe", "--always")
        unchanged = _git("diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)docs").returncode == 0
    except OSError:
        return "unknown"
    name = described.stdout.strip()
    return name + ("" if unchanged else "-dirty") if name else "unknown"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )


@cache
def machine() -> str:
    """What computes here, in words: processor, cores that this process may use, and NVIDIA's GPUs."""
    parts = [f"{_processor()}, {len(os.sched_getaffinity(0))} cores"]
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        parts += _values(path, "Model")
    return ", ".join(parts)


def _processor() -> str:
    names = _values(Path("/proc/cpuinfo"), "model name")
    if names:
        return names[0]
    try:
        # Arm boards, with Jetson among them, name themselves here.
        return Path("/proc/device-tree/model").read_text().strip("\0\n ")
    except OSError:
        return platform.machine()


def _values(path: Path, key: str) -> list[str]:
    """The values of a key in a file of `key : value` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == key]
