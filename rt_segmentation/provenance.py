"""Which state of the package made a result, and on which machine."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

ENGINE_LIBRARIES = ("torch", "openvino", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch2trt")
LIBRARIES = (*ENGINE_LIBRARIES, "nncf", "numpy", "opencv-python-headless", "rt_segmentation")
"""What the times and the labels of a model may depend on."""


@dataclass(frozen=True)
class Machine:
    """What computes here; `memory_gb` is in units of 2**30 bytes."""

    cpu: str
    cores: int
    memory_gb: float | None
    system: str
    python: str


@dataclass(frozen=True)
class Environment:
    """The machine, the versions of the `LIBRARIES` that it has, and the commit of the source tree."""

    machine: Machine
    versions: dict[str, str]
    commit: str


def commit() -> str:
    """The source tree's commit, '-dirty' if changed since; 'unknown' without git or outside a repository.

    Changed documents do not count: measurements are written there, one after the other.
    """
    try:
        # The package may lie in a folder of somebody else's repository, as an environment of Python does.
        if _git("ls-files", "--error-unmatch", Path(__file__).name).returncode != 0:
            return "unknown"
        described = _git("describe", "--always")
        # It notes which files it has read. `git diff` does not: in a fresh clone it reads many each time.
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs")
        unchanged = changed.returncode == 0 and not changed.stdout
    except OSError:
        return "unknown"
    name = described.stdout.strip()
    return name + ("" if unchanged else "-dirty") if name else "unknown"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )


def versions(*libraries: str) -> dict[str, str]:
    """The versions of those of the libraries that are installed, as pip names them."""
    found = {}
    for name in libraries:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def environment() -> Environment:
    """What this process runs on and with."""
    here = Machine(processor(), cores(), _memory_gb(), platform.platform(), platform.python_version())
    return Environment(here, versions(*LIBRARIES), commit())


@cache
def machine() -> str:
    """What computes here, in words: processor, cores that this process may use, and NVIDIA's GPUs."""
    parts = [f"{processor()}, {cores()} cores"]
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        parts += _values(path, "Model")
    return ", ".join(parts)


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name; of a board that does not name it, the board's."""
    names = _values(Path("/proc/cpuinfo"), "model name")
    if names:
        return names[0]
    try:
        # Arm boards, with Jetson among them, name themselves here.
        return Path("/proc/device-tree/model").read_text().strip("\0\n ")
    except OSError:
        return platform.machine()


def _memory_gb() -> float | None:
    """Of the whole machine, in units of 2**30 bytes."""
    found = _values(Path("/proc/meminfo"), "MemTotal")
    return round(int(found[0].split()[0]) / 2**20, 1) if found else None


def _values(path: Path, key: str) -> list[str]:
    """The values of a key in a file of `key : value` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == key]
