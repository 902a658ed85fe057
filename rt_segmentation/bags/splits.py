"""The files of a bag, whatever it is: a rosbag2 folder, one of its files, or a ROS 1 bag."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import yaml

from rt_segmentation.bags.errors import BagError, Broken, rosbags_missing
from rt_segmentation.bags.topics import Topic, merged
from rt_segmentation.settings import load_yaml
from rt_segmentation.text import printable

METADATA = "metadata.yaml"
STORAGES = (".mcap", ".db3", ".bag")
COMPRESSED = ".zstd"
ACTIVE = ".active"
"""What recorders add to the name of a file until they close it."""
MAGICS = {b"\x89MCAP0\r\n": ".mcap", b"SQLite format 3\0": ".db3", b"#ROSBAG V": ".bag"}
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""Begins a zstd frame; a serialised message of ROS 2 begins with its encoding, 00 00 to 00 0b."""
DATABASE_COMPANIONS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Splits:
    """The files of a bag in the order recorded, and what its metadata say.

    Attributes:
        files: to read one after the other; some may be missing.
        metadata: `rosbag2_bagfile_information` of metadata.yaml, {} without one.
        problem: why there is no metadata though metadata.yaml is there, or ''.
        note: which files are read in place of those that metadata.yaml lists, or ''.
    """

    files: tuple[Path, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    note: str = ""

    @property
    def topics(self) -> tuple[Topic, ...] | None:
        """As the metadata list them, None without metadata."""
        if not self.metadata:
            return None
        return merged(
            Topic(t["topic_metadata"]["name"], t["topic_metadata"]["type"], int(t["message_count"]))
            for t in self.metadata["topics_with_message_count"]
        )


def find_splits(path: Path) -> Splits:
    """Look for a bag's files.

    Raises:
        BagError: there is no bag at this path, it may not be read, or its metadata are damaged.
    """
    try:
        return _found(path)
    except OSError as error:
        raise BagError(f"bag {path} cannot be read: {error}") from error


def _found(path: Path) -> Splits:
    if not path.exists():
        raise BagError(f"bag {path} does not exist")
    if not path.is_dir():
        if storage_of(path) is None:
            raise BagError(
                f"{path} is no bag: a rosbag2 folder, a file ending in {', '.join(STORAGES)}, or one of these"
                f" with {COMPRESSED} or {ACTIVE} is wanted"
            )
        return Splits((path,))
    problem = ""
    if (path / METADATA).is_file():
        try:
            return _described(path)
        except BagError as error:
            problem = str(error)
    files = _files_of_ros2(path)
    if not files:
        endings = " or ".join(STORAGES[:2])
        if problem:
            raise BagError(f"nothing can be read of bag {path}: {problem}, and it has no {endings} files")
        raise BagError(f"folder {path} is no bag: it has neither {METADATA} nor {endings} files")
    return Splits(tuple(files), problem=problem)


def check_apart(paths: Sequence[Path]) -> None:
    """Refuse bags of which a message would count twice: one that is given again, or beside a file of it.

    Raises:
        BagError: there is one; it names both.
    """
    known: dict[Path, Path] = {}
    for path in paths:
        other = known.setdefault(path.resolve(), path)
        if other is not path:
            raise BagError(f"bag {path} is given twice; give each once")
    for place, path in known.items():
        if place.parent in known:
            raise BagError(f"bag {path} is a part of {known[place.parent]}; give one of both")


@contextmanager
def decompressed(path: Path) -> Iterator[Path]:
    """A split as a file that can be read, whose name ends in one of `STORAGES`.

    What was compressed as a whole lies in a temporary folder meanwhile, and so does a link to a file of
    another name: the readers go by names.

    Raises:
        Broken: nothing of it can be decompressed.
    """
    storage = storage_of(path)
    if storage is None or (path.suffix == storage and not is_compressed(path)):
        with _openable(path) as plain:
            yield plain
        return
    with tempfile.TemporaryDirectory(prefix="rt_segmentation-") as folder:
        plain = Path(folder) / f"bag{storage}"
        if not is_compressed(path):
            for ending in ("", *DATABASE_COMPANIONS):
                if (companion := path.with_name(path.name + ending)).is_file():
                    plain.with_name(plain.name + ending).symlink_to(companion.resolve())
            yield plain
            return
        zstd = zstd_module()
        try:
            with zstd.open(path, "rb") as source, plain.open("wb") as target:
                shutil.copyfileobj(source, target)
        # A file that was cut off gives what came before the cut, and the reader says where it ends.
        except (EOFError, zstd.ZstdError) as error:
            if not plain.stat().st_size:
                raise Broken(f"cannot be decompressed: {error}") from error
        yield plain


@contextmanager
def _openable(path: Path) -> Iterator[Path]:
    """The file, or a link to it where SQLite would not take its name, which is not UTF-8; so with its log."""
    if path.suffix != ".db3" or printable(path) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="rt_segmentation-") as folder:
        for ending in ("", *DATABASE_COMPANIONS):
            if (target := path.with_name(path.name + ending).absolute()).exists():
                (Path(folder) / f"bag.db3{ending}").symlink_to(target)
        yield Path(folder) / "bag.db3"


@cache
def zstd_module() -> Any:
    """Python's own zstd, from 3.14 on, or the one that rosbags brings.

    Raises:
        BagError: it is not installed.
    """
    try:
        return import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError as error:
        raise rosbags_missing(error) from None


def decompress_message(data: bytes) -> bytes:
    """A message of ROS 2 as it was serialised; that of a bag with the compression mode 'message' is unpacked.

    The data tell, because a file that lies alone has no metadata that could.

    Raises:
        ValueError: it is damaged.
        BagError: nothing here can decompress it.
    """
    if data[:4] != ZSTD_MAGIC:
        return data
    zstd = zstd_module()
    try:
        return bytes(zstd.decompress(data))
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


def _described(path: Path) -> Splits:
    try:
        content = load_yaml((path / METADATA).read_text(encoding="utf-8"))
        metadata = content["rosbag2_bagfile_information"]
        # Only names: a path in a file must not lead out of the bag.
        listed = [path / PurePath(name).name for name in metadata["relative_file_paths"]]
        files, note = _present(listed, path)
        splits = Splits(files, metadata, note=note)
        # These are asked for later.
        int(metadata["message_count"]), metadata["duration"]["nanoseconds"], splits.topics
        int(metadata["starting_time"]["nanoseconds_since_epoch"])
        return splits
    except OSError as error:
        raise BagError(f"{METADATA} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise BagError(f"{METADATA} is damaged ({type(error).__name__}: {cause})") from error


def _present(listed: list[Path], folder: Path) -> tuple[tuple[Path, ...], str]:
    """The listed files, those that are missing replaced by ones that are there; and a note on these.

    Files are renamed, and decompressed by hand; metadata.yaml keeps the old names.
    """
    missing = [file for file in listed if not file.is_file()]
    others = [file for file in _files_of_ros2(folder) if file not in listed] if missing else []
    found: dict[Path, Path] = {}
    for same_name in (True, False):
        for file in missing:
            other = next((o for o in others if not same_name or _plain_name(o) == _plain_name(file)), None)
            if file not in found and other is not None:
                found[file] = other
                others.remove(other)
    replaced = ", ".join(f"{new.name} is read in place of {old.name}" for old, new in found.items())
    note = f"{METADATA} lists files that are not there: {replaced}" if found else ""
    return tuple(found.get(file, file) for file in listed), note


def storage_of(path: Path) -> str | None:
    """Which of `STORAGES` a file is, by its first bytes, else by its name; None where neither tells."""
    if not path.is_file():
        return None
    found = next((kind for magic, kind in MAGICS.items() if _head(path).startswith(magic)), None)
    suffix = Path(_plain_name(path)).suffix
    return found or (suffix if suffix in STORAGES else None)


def _files_of_ros2(folder: Path) -> list[Path]:
    """Storage files by their number; of the names alone, as a folder may hold anything."""
    named = (p for p in folder.iterdir() if Path(_plain_name(p)).suffix in STORAGES[:2] and p.is_file())
    return sorted(named, key=_number)


def _plain_name(path: Path) -> str:
    """A file's name without what compression and an open recorder add."""
    name = path.name
    for ending in (COMPRESSED, ACTIVE):
        name = name.removesuffix(ending)
    return name


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed as a whole: by its first bytes, else by its name."""
    head = _head(path)
    named = path.suffix == COMPRESSED and not head.startswith(tuple(MAGICS))
    return named or head.startswith(ZSTD_MAGIC)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _number(path: Path) -> tuple[int, str]:
    """rosbag2 counts its splits: name_0, name_1, … name_10."""
    # The last number: names of bags may have dots as well, as site_2.1_0.mcap.
    found = re.search(r"_(\d+)\.[^_]*$", path.name)
    return (int(found[1]) if found else -1, path.name)
