"""Lines by room are those of a commit, not of the working tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rt_segmentation.errors import RtSegmentationError
from tools.room_lines import lines_by_room, to_markdown


def test_lines_are_counted_by_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"rt_segmentation/a.py": 2, "rt_segmentation/ros/b.py": 3, "rt_segmentation/ros/demo/c.py": 4}
    files.update({"test/unit/test_a.py": 5, "setup.py": 6, "docs/page.md": 7})
    for name, lines in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n" * lines)
    monkeypatch.chdir(tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], check=True)
    (tmp_path / "setup.py").write_text("")

    counted = lines_by_room("HEAD")
    assert counted == {"single modules": 2, "ros": 7, "test/": 5, "setup.py/": 6}
    rows = to_markdown(["HEAD"], [counted]).splitlines()[2:]
    assert rows == [
        "| ros | 7 |",
        "| single modules | 2 |",
        "| the package | 9 |",
        "| setup.py | 6 |",
        "| test | 5 |",
    ]
    with pytest.raises(RtSegmentationError, match="no lines can be counted at 'nowhere'"):
        lines_by_room("nowhere")
