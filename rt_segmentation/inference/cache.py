"""What engines build, kept on disk: one folder an entry, written whole or not at all.

What cannot be written, on a full disk or where the cache is read-only, is kept in this process's memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

DESCRIPTION = "entry.json"
# What reading an entry raises of which the files were changed.
_DAMAGES = (AttributeError, KeyError, OSError, TypeError, ValueError)

Made = tuple[Mapping[str, bytes], Mapping[str, Any]]
"""The files of an entry, and its data."""


@dataclass(frozen=True)
class CacheKey:
    """What an entry was built from.

    Attributes:
        kind: 'graph' or an engine's name.
        identity: what is asked for: model, weights, shape, precision, device. Another one is another entry.
        made_with: what built it: versions of libraries and of this code. Where one differs it is stale.
    """

    kind: str
    identity: Mapping[str, Any]
    made_with: Mapping[str, Any]

    @property
    def folder_name(self) -> str:
        """Readable at its start, distinct by its end."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.identity.get('model', 'model')}-{self.kind}-{digest}"


@dataclass(frozen=True)
class CacheEntry:
    """A complete entry: its files have the sizes and sha256 they were written with.

    Attributes:
        folder: that holds the files, or would hold them.
        key: as stored: `kind`, `identity`, `made_with`.
        data: what the builder noted, as JSON's types.
        memory: the files of an entry that could not be written, by name; None for one on disk.
    """

    folder: Path
    key: Mapping[str, Any]
    data: Mapping[str, Any]
    memory: Mapping[str, bytes] | None = None

    def file(self, name: str) -> Path:
        """Path of one of its files; of an entry on disk."""
        return self.folder / name

    def read(self, name: str) -> bytes:
        """Content of one of its files, wherever it is."""
        return self.file(name).read_bytes() if self.memory is None else self.memory[name]

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        if self.memory is not None:
            return sum(len(content) for content in self.memory.values())
        return sum(path.stat().st_size for path in self.folder.iterdir())


DISK_BYTES = 4 * 1024**3
"""So much is kept on disk; then what was not used for the longest time is deleted, to be built again."""

UNFINISHED_S = 3600.0
"""Nobody writes an entry for so long [s]: what has no name yet after that is what a crash left."""

MEMORY_BYTES = 256 * 1024**2
"""So much of what cannot be written is kept in memory; then the oldest is let go, to be built again."""

# By the folder that they would have, the oldest first.
_in_memory: dict[Path, CacheEntry] = {}


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/rt_segmentation``; it may not be there, and may not be writable."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The base directory specification: a relative path is to be ignored.
    if os.path.isabs(home):
        return Path(home) / "rt_segmentation"
    try:
        return Path("~/.cache").expanduser() / "rt_segmentation"
    except RuntimeError:
        # No HOME, and a user that the system does not know, as in containers: a folder that never is there.
        return Path(os.devnull) / "rt_segmentation"


def find(key: CacheKey) -> CacheEntry | None:
    """An entry, or None where it has to be built; a damaged or stale one is reported with a warning."""
    entry, problem = look(key)
    if problem:
        logger.warning("cache entry %s is %s and is built again", cache_root() / key.folder_name, problem)
    if entry is not None and entry.memory is None:
        # When it was used last; a cache that is only read is not made smaller either.
        with contextlib.suppress(OSError):
            os.utime(entry.folder)
    return entry


def find_quietly(key: CacheKey) -> CacheEntry | None:
    """As `find`, for whoever waited for `locked`: what is wrong with an entry was reported before."""
    return look(key)[0]


def look(key: CacheKey) -> tuple[CacheEntry | None, str]:
    """An entry, or why the one that is there cannot be used: 'damaged (...)' or 'stale (...)'; else ''."""
    folder = cache_root() / key.folder_name
    entry = _remembered(folder, key)
    if entry is not None:
        return entry, ""
    try:
        if not folder.is_dir():
            return None, ""
        entry = _read(folder)
        stored, wanted = dict(entry.key["made_with"]), dict(key.made_with)
    except _DAMAGES as error:
        return None, f"damaged ({error})"
    changed = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
    if changed:
        name = changed[0]
        return None, f"stale ({name} was {stored.get(name, 'none')}, is {wanted.get(name, 'none')})"
    return entry, ""


def holds(kind: str, identity: Mapping[str, Any], made_with: Mapping[str, Any]) -> bool:
    """Whether there is an entry of this kind whose identity and makers include the given ones."""
    root = cache_root()
    descriptions = [dict(entry.key) for folder, entry in _in_memory.items() if folder.parent == root]
    with contextlib.suppress(OSError):
        for path in root.glob(f"*/{DESCRIPTION}"):
            with contextlib.suppress(OSError, ValueError):
                descriptions.append(json.loads(path.read_text(encoding="utf-8")))
    for description in descriptions:
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            if (
                description["kind"] == kind
                and all(description["identity"].get(name) == value for name, value in identity.items())
                and all(description["made_with"].get(name) == value for name, value in made_with.items())
            ):
                return True
    return False


def identities(kind: str, model: str) -> list[dict[str, Any]]:
    """What the entries of a kind and a model were asked for; whether they are complete is not looked at."""
    root = cache_root()
    found = [
        dict(entry.key["identity"])
        for folder, entry in list(_in_memory.items())
        if folder.parent == root and entry.key["kind"] == kind
    ]
    with contextlib.suppress(OSError):
        for path in sorted(root.iterdir()):
            if path.name.startswith(f"{model}-{kind}-"):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    found.append(dict(json.loads((path / DESCRIPTION).read_text("utf-8"))["identity"]))
    return [identity for identity in found if identity.get("model") == model]


def keep(key: CacheKey, files: Mapping[str, bytes], data: Mapping[str, Any]) -> CacheEntry:
    """As `store`; what cannot be written is kept in memory until the process ends, with a warning."""
    folder = cache_root() / key.folder_name
    try:
        entry = store(key, files, data)
    except OSError as error:
        _warn_once(folder.parent, error.strerror or str(error))
        made = {"kind": key.kind, "identity": dict(key.identity), "made_with": dict(key.made_with)}
        entry = CacheEntry(folder, made, dict(data), dict(files))
        _remember(entry)
        return entry
    _in_memory.pop(folder, None)
    return entry


def find_or_make(key: CacheKey, make: Callable[[], Made]) -> CacheEntry:
    """An entry, made if it is not there; of several processes that want it one makes it.

    Args:
        key: of the entry.
        make: gives its files and data; may raise whatever it does.
    """
    entry = find(key)
    if entry is not None:
        return entry
    with locked(key):
        return find_quietly(key) or keep(key, *make())


def _remember(entry: CacheEntry) -> None:
    """Whoever uses an entry that is let go has its files still."""
    _in_memory.pop(entry.folder, None)
    _in_memory[entry.folder] = entry
    # Two threads may build concurrently.
    held = [one for one in list(_in_memory.values()) if one.size_bytes]
    too_much = sum(one.size_bytes for one in held) - MEMORY_BYTES
    for oldest in held[:-1]:
        if too_much <= 0:
            return
        if _in_memory.pop(oldest.folder, None) is not None:
            too_much -= oldest.size_bytes


def kept() -> bool:
    """Whether all that was built for the cache as it is now could be written."""
    root = cache_root()
    return all(folder.parent != root for folder in _in_memory)


@cache
def _warn_once(root: Path, reason: str) -> None:
    logger.warning(
        "engine cache %s cannot be written (%s): what is built is used from memory, and built again at the"
        " next start",
        root,
        reason,
    )


def _remembered(folder: Path, key: CacheKey) -> CacheEntry | None:
    entry = _in_memory.get(folder)
    return entry if entry is not None and entry.key["made_with"] == dict(key.made_with) else None


def store(key: CacheKey, files: Mapping[str, bytes], data: Mapping[str, Any]) -> CacheEntry:
    """Write an entry in the place of an earlier one of the same identity.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    _delete_left(root)
    final = root / key.folder_name
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
    # Whoever may use the cache may read it: an image's build makes it for another user.
    temporary.chmod(stat.S_IMODE(root.stat().st_mode) & 0o777)
    try:
        for name, content in files.items():
            _write(temporary / name, content)
        description = {
            "kind": key.kind,
            "identity": dict(key.identity),
            "made_with": dict(key.made_with),
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "data": dict(data),
        }
        _write(temporary / DESCRIPTION, json.dumps(description, indent=1).encode())
        # A folder cannot be replaced by a rename: the old one steps aside first.
        with contextlib.suppress(FileNotFoundError):
            discard(final)
        os.rename(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _make_room(final)
    return _read(final)


def _delete_left(root: Path) -> None:
    for pattern in (".new-*", ".old-*"):
        for folder in root.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > UNFINISHED_S:
                    shutil.rmtree(folder)


def _make_room(newest: Path) -> None:
    """Delete what was not used for the longest time where there is too much; whoever has it open keeps it."""
    held = []
    for folder in newest.parent.iterdir():
        # Another process may delete or replace it meanwhile.
        with contextlib.suppress(OSError):
            if folder.is_dir() and not folder.name.startswith("."):
                files = list(folder.rglob("*"))
                size = sum(path.stat().st_size for path in files)
                # What `rt_seg tune` found, and verdicts: without them there is no more room.
                if [path.name for path in files] != [DESCRIPTION]:
                    held.append((folder == newest, folder.stat().st_mtime, size, folder))
    too_much = sum(size for *_, size, _ in held) - DISK_BYTES
    for is_newest, _, size, folder in sorted(held):
        if too_much <= 0 or is_newest:
            return
        logger.info("cache entry %s was not used for the longest time and is deleted to make room", folder)
        with contextlib.suppress(OSError):
            discard(folder)
            too_much -= size


@contextlib.contextmanager
def locked(key: CacheKey) -> Iterator[None]:
    """Keep other processes from building the same entry; the lock goes with the process that holds it.

    Where no lock can be had, in a folder that cannot be written or on a disk that knows none, there is none.
    """
    root = cache_root()
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((root / f".{key.folder_name}.lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entries() -> list[CacheEntry]:
    """All complete entries on disk, by folder name."""
    root = cache_root()
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith("."):
            with contextlib.suppress(*_DAMAGES):
                found.append(_read(folder))
    return found


def _read(folder: Path) -> CacheEntry:
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    if not all(isinstance(description[name], dict) for name in ("files", "identity", "made_with", "data")):
        raise ValueError(f"{DESCRIPTION} is not as it was written")
    for name, digest in description["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name} has other content than was written")
    key = {name: description[name] for name in ("kind", "identity", "made_with")}
    return CacheEntry(folder, key, description["data"])


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def discard(folder: Path) -> None:
    """Out of the way in one step, so that nobody meets half of it, then deleted."""
    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
    try:
        os.rename(folder, aside / "entry")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
