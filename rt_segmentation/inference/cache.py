"""What engines build, kept on disk: one folder an entry, written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

DESCRIPTION = "entry.json"

# Beside the engines' own files.
_GRAPH_SOURCES = ("graph.py", "export.py", "tensorrt_body.py", "torch2trt_conversion.py", "torch_runner.py")


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
        folder: that holds the files.
        key: as stored: `kind`, `identity`, `made_with`.
        data: what the builder noted, as JSON's types.
    """

    folder: Path
    key: Mapping[str, Any]
    data: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Path of one of its files."""
        return self.folder / name

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/rt_segmentation``, or with a warning a temporary folder if that is not writable."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The base directory specification: a relative path is to be ignored.
    base = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
    root = base / "rt_segmentation"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK | os.X_OK):
            return root
        reason = "permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    return _temporary_root(root, reason)


@cache
def _temporary_root(root: Path, reason: str) -> Path:
    logger.warning(
        "engine cache %s cannot be written (%s); engines are built again at each start", root, reason
    )
    folder = tempfile.TemporaryDirectory(prefix="rt_segmentation-")
    _TEMPORARY.append(folder)
    return Path(folder.name)


# Deleted when the process ends.
_TEMPORARY: list[tempfile.TemporaryDirectory[str]] = []


def find(key: CacheKey) -> CacheEntry | None:
    """An entry, or None where it has to be built; a damaged or stale one is reported with a warning."""
    folder = cache_root() / key.folder_name
    if not folder.is_dir():
        return None
    try:
        entry = _read(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("cache entry %s is damaged (%s) and is built again", folder, error)
        return None
    stored, wanted = dict(entry.key["made_with"]), dict(key.made_with)
    changed = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
    if changed:
        name = changed[0]
        logger.warning(
            "cache entry %s is stale (%s was %s, is %s) and is built again",
            folder,
            name,
            stored.get(name),
            wanted.get(name),
        )
        return None
    return entry


def find_quietly(key: CacheKey) -> CacheEntry | None:
    """As `find`, for whoever waited for `locked`: what is wrong with an entry was reported before."""
    try:
        entry = _read(cache_root() / key.folder_name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if entry.key["made_with"] == dict(key.made_with) else None


def holds(kind: str, identity: Mapping[str, Any]) -> bool:
    """Whether there is an entry of this kind, made by this code, whose identity includes the given one."""
    for path in cache_root().glob(f"*/{DESCRIPTION}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            description = json.loads(path.read_text(encoding="utf-8"))
            if (
                description["kind"] == kind
                and description["made_with"]["code"] == code_digest()
                and all(description["identity"].get(name) == value for name, value in identity.items())
            ):
                return True
    return False


def store(key: CacheKey, files: Mapping[str, bytes], data: Mapping[str, Any]) -> CacheEntry:
    """Write an entry in the place of an earlier one of the same identity.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    root = cache_root()
    final = root / key.folder_name
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=root))
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
            _discard(final)
        os.rename(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return _read(final)


@contextlib.contextmanager
def locked(key: CacheKey) -> Iterator[None]:
    """Keep other processes from building the same entry; the lock goes with the process that holds it."""
    path = cache_root() / f".{key.folder_name}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entries() -> list[CacheEntry]:
    """All complete entries, by folder name."""
    found = []
    for folder in sorted(cache_root().iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append(_read(folder))
    return found


def clear() -> int:
    """Delete everything, also what is damaged or was left by a crash; returns the bytes that were freed."""
    freed = 0
    for path in list(cache_root().iterdir()):
        if path.is_dir():
            freed += sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            _discard(path)
        # Lock files stay: deleting one would let two processes hold two locks of the same name.
    return freed


@cache
def code_digest() -> str:
    """Changes with the code that decides what a graph computes: its entries are stale then."""
    package = Path(__file__).parent.parent
    sources = [
        *sorted((package / "networks").glob("*.py")),
        *sorted((package / "inference" / "deploy").glob("*.py")),
        *(package / "inference" / "engines" / name for name in _GRAPH_SOURCES),
        *sorted((package / "inference" / "engines").glob("*_engine.py")),
        package / "inference" / "quantization.py",
    ]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read(folder: Path) -> CacheEntry:
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
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


def _discard(folder: Path) -> None:
    """Out of the way in one step, so that nobody meets half of it, then deleted."""
    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
    try:
        os.rename(folder, aside / "entry")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
