"""Files are written whole or not at all, and what is none is not found."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from rt_segmentation.files import files_in, other_files, replacing, write_atomically


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


def test_folders_above_a_file_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"
    (tmp_path / "no_folder").write_bytes(b"")
    with pytest.raises(OSError, match="no_folder"):
        write_atomically(tmp_path / "no_folder" / "file", b"")


def test_a_link_stays_one_and_a_file_keeps_its_rights(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"before")
    real.chmod(0o600)
    link.symlink_to("real")
    write_atomically(link, b"after")
    assert link.is_symlink() and real.read_bytes() == b"after"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


def test_a_folder_or_a_link_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"^\[Errno \d+\] [^:]*: '[^']*/folder'$"):
        write_atomically(tmp_path / "folder", b"")
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    write_atomically(circle, b"content")
    assert circle.read_bytes() == b"content"


def test_a_pipe_gets_what_is_written_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(pipe.read_bytes)
        write_atomically(pipe, b"content")
        assert reading.result(20.0) == b"content"
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_full_disk_names_the_file_whoever_writes_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*/file'"), replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # Another one may be of another file.
    with pytest.raises(OSError, match=r"Permission denied$"), replacing(tmp_path / "file"):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_full_disk_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr("rt_segmentation.files.replacing", lambda _: nullcontext(Path("/dev/full")))
    with pytest.raises(OSError, match="No space left on device: '/somewhere/file'"):
        write_atomically(Path("/somewhere/file"), b"content")


@pytest.mark.parametrize(("suffix", "find"), [(".png", files_in), (".txt", other_files)])
def test_links_to_nothing_are_files_and_folders_pipes_and_devices_are_none(
    tmp_path: Path, suffix: str, find: Callable[[Path], list[Path | str]]
) -> None:
    (tmp_path / f"file{suffix}").touch()
    (tmp_path / f"folder{suffix}").mkdir()
    os.mkfifo(tmp_path / f"pipe{suffix}")
    links = {"broken": "nothing", "circle": f"circle{suffix}", "device": os.devnull, "link": f"file{suffix}"}
    links |= {"to_folder": f"folder{suffix}", "to_pipe": f"pipe{suffix}"}
    for name, target in links.items():
        (tmp_path / f"{name}{suffix}").symlink_to(target)
    assert [Path(found).stem for found in find(tmp_path)] == ["broken", "circle", "file", "link"]
