"""Which code made something: the commit, and whether the code has changed since."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rt_segmentation import provenance


def commit(tree: Path) -> str:
    """What the module says when it lies in a tree."""
    described: str = runpy.run_path(str(tree / "package" / "provenance.py"))["commit"]()
    return described


def test_changed_code_is_told_and_changed_documents_are_not(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for folder in ("package", "docs"):
        (tmp_path / folder).mkdir()
    shutil.copy(provenance.__file__, tmp_path / "package" / "provenance.py")
    (tmp_path / "docs" / "page.md").write_text("before")
    assert commit(tmp_path) == "unknown"
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "describe", "--always"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert commit(tmp_path) == head
    # An environment of Python in the repository of a robot: the commit is not the package's.
    (tmp_path / "venv" / "package").mkdir(parents=True)
    shutil.copy(provenance.__file__, tmp_path / "venv" / "package" / "provenance.py")
    assert commit(tmp_path / "venv") == "unknown"
    (tmp_path / "docs" / "page.md").write_text("after")
    assert commit(tmp_path) == head
    with (tmp_path / "package" / "provenance.py").open("a") as file:
        file.write("# changed\n")
    assert commit(tmp_path) == f"{head}-dirty"


def test_the_machine_is_named_alike_everywhere() -> None:
    known = provenance.environment()
    assert provenance.machine().startswith(f"{known.machine.cpu}, {known.machine.cores} cores")
    assert known.machine.memory_gb is not None and known.machine.memory_gb > 0
    assert known.versions["numpy"] == np.__version__
    assert provenance.versions("numpy", "no-such-library") == {"numpy": np.__version__}
