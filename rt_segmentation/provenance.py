"""Which state of the package made a result."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """The source tree's commit, '-dirty' if changed since; 'unknown' without git or outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"
