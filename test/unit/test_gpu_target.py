"""`make test-gpu` where there is no GPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.skipif(
    any(Path(path).exists() for path in ("/proc/driver/nvidia/version", "/dev/nvhost-gpu")),
    reason="there is a GPU: `make test-gpu` would run",
)
def test_it_says_that_there_is_none() -> None:
    found = subprocess.run(["make", "-C", str(ROOT), "test-gpu"], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "no NVIDIA GPU here" in found.stdout
