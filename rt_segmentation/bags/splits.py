"""The files of a bag, whatever it is: a rosbag2 folder, one of its files, or a ROS 1 bag."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from rt_segmentation.bags.errors import BagError, Broken, rosbags_missing
from rt_segmentation.bags.topics import Topic
from rt_segmentation.text import printable

METADATA = "metadata.yaml"
STORAGES = (".mcap", ".db3", ".bag")
COMPRESSED = ".zstd"


@dataclass(frozen=True)
class Splits:
    """The files of a bag in the order recorded, and what its metadata say.

    Attributes:
        files: to read one after the other; some may be missing.
        metadata: `rosbag2_bagfile_information` of metadata.yaml, {} without one.
        compressed_messages: each message is a zstd frame of its own.
        problem: why there is no metadata though metadata.yaml is there, or ''.
    """

    files: tuple[Path, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    compressed_messages: bool = False
    problem: str = ""

    @property
    def topics(self) -> tuple[Topic, ...] | None:
        """As the metadata list them, None without metadata."""
        if not self.metadata:
            return None
        return tuple(
            Topic(t["topic_metadata"]["name"], t["topic_metadata"]["type"], int(t["message_count"]))
            for t in self.metadata["topics_with_message_count"]
        )


def find_splits(path: Path) -> Splits:
    """Look for a bag's files.

    Raises:
        BagError: there is no bag at this path, or its metadata are damaged.
    """
    if not path.exists():
        raise BagError(f"bag {path} does not exist")
    if not path.is_dir():
        if _storage(path) is None:
            raise BagError(
                f"{path} is no bag: a rosbag2 folder, a file ending in {', '.join(STORAGES)}, or one of these"
                f" with {COMPRESSED} is wanted"
            )
        return Splits((path,))
    problem = ""
    if (path / METADATA).is_file():
        try:
            return _described(path)
        except BagError as error:
            problem = str(error)
    files = sorted((p for p in path.iterdir() if _storage(p) in STORAGES[:2]), key=_number)
    if not files:
        raise BagError(
            f"folder {path} is no bag: it has neither {METADATA} nor {' or '.join(STORAGES[:2])} files"
        )
    return Splits(tuple(files), problem=problem)


@contextmanager
def decompressed(path: Path) -> Iterator[Path]:
    """A split as a file that can be read; what was compressed as a whole lies in a temporary folder.

    Raises:
        Broken: nothing of it can be decompressed.
    """
    if path.suffix != COMPRESSED:
        with _openable(path) as plain:
            yield plain
        return
    try:
        from backports import zstd
    except ImportError as error:
        raise rosbags_missing(error) from None
    with tempfile.TemporaryDirectory(prefix="rt_segmentation-") as folder:
        plain = Path(folder) / path.stem
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
        for ending in ("", "-wal"):
            if (target := path.with_name(path.name + ending).absolute()).exists():
                (Path(folder) / f"bag.db3{ending}").symlink_to(target)
        yield Path(folder) / "bag.db3"


def decompress_message(data: bytes) -> bytes:
    """A message of a bag with the compression mode 'message'.

    Raises:
        ValueError: it is damaged.
    """
    from backports import zstd

    try:
        return zstd.decompress(data)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


def _described(path: Path) -> Splits:
    try:
        content = yaml.safe_load((path / METADATA).read_text(encoding="utf-8"))
        metadata = content["rosbag2_bagfile_information"]
        # Only names: a path in a file must not lead out of the bag.
        files = tuple(path / PurePath(name).name for name in metadata["relative_file_paths"])
        mode = str(metadata.get("compression_mode") or "").lower()
        splits = Splits(files, metadata, mode == "message")
        # These are asked for later.
        int(metadata["message_count"]), metadata["duration"]["nanoseconds"], splits.topics
        int(metadata["starting_time"]["nanoseconds_since_epoch"])
        return splits
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise BagError(f"{METADATA} is damaged ({type(error).__name__}: {cause})") from error


def _storage(path: Path) -> str | None:
    suffix = Path(path.stem).suffix if path.suffix == COMPRESSED else path.suffix
    return suffix if suffix in STORAGES and path.is_file() else None


def _number(path: Path) -> tuple[int, str]:
    """rosbag2 counts its splits: name_0, name_1, … name_10."""
    found = re.search(r"_(\d+)\.", path.name)
    return (int(found[1]) if found else -1, path.name)
