"""The workflow and the Dockerfiles are what their linters take; skipped where these are not installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile*"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


@pytest.mark.parametrize(("linter", "files"), [("hadolint", DOCKERFILES), ("actionlint", WORKFLOWS)])
def test_the_linter_finds_nothing(linter: str, files: list[Path]) -> None:
    if shutil.which(linter) is None:
        pytest.skip(f"{linter} is not installed")
    assert files
    done = subprocess.run([linter, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
