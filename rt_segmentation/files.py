"""Files: written whole or not at all, and found by name.

Names come from cameras, cards, zips and other people's computers.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rt_segmentation.text import printable

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Of the image files that are read."""

_T = TypeVar("_T")


def user_path(name: str | Path) -> Path:
    """A path as a shell takes it: ``~`` is the user's home. Where there is no such home it stays as it is."""
    return Path(os.path.expanduser(name))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside a file, to write to; what was written gets the file's name at the end of the block.

    After an exception the file is as it was, and what was written is gone. Folders above it are made. A link
    stays one, and its file is replaced. A pipe or a device gets what was written.
    """
    stream = is_stream(path)
    if not stream:
        path = _behind_links(path)
        path.parent.mkdir(parents=True, exist_ok=True)
    # Of its own, as the file's name may be as long as a name can be.
    folder = Path(tempfile.gettempdir()) if stream else path.parent
    unfinished = folder / f".{os.urandom(8).hex()}.partial"
    try:
        with _naming(path, full=True):
            yield unfinished
        with _naming(path):
            if stream:
                with unfinished.open("rb") as written, path.open("wb") as out:
                    shutil.copyfileobj(written, out)
            else:
                if path.is_file():
                    shutil.copymode(path, unfinished)
                os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    with replacing_together({path: data}):
        pass


@contextmanager
def replacing_together(contents: Mapping[Path, bytes]) -> Iterator[None]:
    """Files that belong together: written beside their names, which they get at the end of the block.

    After an exception, also one of the block's, all files are as they were.

    Raises:
        OSError: the disk is full, or a folder is not writable; it names the file.
    """
    with ExitStack() as unfinished:
        for path, data in contents.items():
            temporary = unfinished.enter_context(replacing(path))
            with _naming(path), temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        yield


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def _naming(path: Path, full: bool = False) -> Iterator[None]:
    """Errors name this file: a full disk does not say which one it was, others name the unfinished one.

    Args:
        path: of the file.
        full: only those of a full disk, where others may be of other files.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or (full and error.errno not in _FULL):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_stream(path: Path) -> bool:
    """Whether it is a pipe, a device or the like, which gets what is written and is not replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _behind_links(path: Path) -> Path:
    # Not `resolve`, which refuses a link that points to itself.
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_file(path: Path) -> None:
    """Say before the work that a file cannot be written. Nothing is made, and what is there stays.

    Raises:
        OSError: it names what stands in the way.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not is_stream(path):
        path = _behind_links(path)
        check_folder(path.parent, path.name)
    elif not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def check_folder(path: Path, *names: str, room: int = 0) -> None:
    """Say before the work that nothing of these names can be written into a folder, which may be made.

    Nothing is made.

    Args:
        path: of the folder.
        names: that are to be written there.
        room: bytes that must find room.

    Raises:
        OSError: it names what stands in the way.
    """
    folder, missing = Path(os.path.abspath(path)), list(names)
    while not os.path.lexists(folder):
        missing.append(folder.name)
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    for name in missing:
        # One that is too long.
        with suppress(FileNotFoundError):
            os.lstat(folder / name)
    # Trying is surer than asking for rights; this file has no name, or loses it at once.
    with _naming(folder), tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(room))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside a name, to write into; it gets the name at the end of the block.

    After an exception there is nothing.

    Raises:
        OSError: something of that name is there, and is no empty folder; or it cannot be made.
    """
    check_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.urandom(8).hex()}.partial")
    unfinished.mkdir()
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_new_folder(path: Path) -> None:
    """Say before the work that a folder cannot be made.

    Raises:
        FileExistsError: something of that name is there, and is no empty folder.
        OSError: the folder above it cannot be written, or made.
    """
    if (path.exists() or path.is_symlink()) and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{printable(path)} is there already and is no empty folder; give another")
    check_folder(path.parent, path.name)


def files_in(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Files of a folder by name, with one of some suffixes in upper or lower case.

    Folders, pipes and devices are left out, and hidden files, as the `._0000.png` that a Mac puts beside each
    image. Broken links stay, for whoever reads them to say so.
    """
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in suffixes
            and _is_file(entry)
        ]
    return [folder / name for name in sorted(names)]


def other_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """Names of a folder's files that `files_in` leaves out for their suffixes, sorted."""
    taken = {file.name for file in files_in(folder, suffixes)}
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.name not in taken and _is_file(entry)
        )


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to nothing or in a circle, which is no folder either."""
    with suppress(OSError):
        return entry.is_file() or not os.path.exists(entry)
    return True


class FilesByName:
    """Finds files by name, though the case of a suffix or the writing of an accent may differ.

    The exact name goes first. A Mac writes an accent behind its letter (NFD), others write both as one (NFC).

    Args:
        files: to be found.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._exact = {file.name: file for file in files}
        self._alike: dict[str, Path] = {}
        for file in files:
            self._alike.setdefault(alike(file.name), file)

    def find(self, name: str) -> Path | None:
        """The file of that name, or None."""
        return self._exact.get(name) or self._alike.get(alike(name))


def alike(name: str) -> str:
    """A name as all are written that mean the same: its suffix in lower case, its accents as NFC."""
    stem, suffix = os.path.splitext(name)
    return unicodedata.normalize("NFC", stem + suffix.lower())


def spread(items: Sequence[_T], count: int) -> list[_T]:
    """At most `count` of the items, evenly spread."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
