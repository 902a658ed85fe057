"""Files are written whole or not at all."""

from __future__ import annotations

import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from rt_segmentation.files import replacing, write_atomically


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two" and list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & stat.S_IRUSR


def test_a_file_stays_as_it_was_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), replacing(path) as unfinished:
        unfinished.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "file", b"")


def test_a_full_disk_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("rt_segmentation.files.replacing", lambda _: nullcontext(Path("/dev/full")))
    with pytest.raises(OSError, match="No space left on device: '/somewhere/file'"):
        write_atomically(Path("/somewhere/file"), b"content")
