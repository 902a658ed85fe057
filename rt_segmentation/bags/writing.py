"""Bags written in splits: what is killed loses the open split, never a closed one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

from rt_segmentation.bags.errors import BagError, rosbags_missing
from rt_segmentation.bags.reading import typestore
from rt_segmentation.bags.splits import METADATA, find_splits
from rt_segmentation.settings import load_yaml

OPEN_SPLIT = ".open"
"""Folder of the split that is being written, within the bag's."""
SUFFIXES = {"mcap": ".mcap", "sqlite3": ".db3"}
BAG_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
DATABASE_COMPANIONS = (".db3-wal", ".db3-shm", ".db3-journal")
VERSION: Final = 8
"""Of the bag format: the newest that Humble, Jazzy and Kilted can all read."""


class BagWriter:
    """Writes a rosbag2 folder; a context manager.

    Each split is written by rosbags as a bag of its own in a hidden folder. When it is full its file moves
    into the bag, and then metadata.yaml is replaced by one that lists it: at any moment the folder is a bag
    that holds all closed splits.

    Args:
        path: the folder.
        overwrite: replace an existing bag, when the first message is written.
        resume: continue after the last closed split of an existing bag.
        split_s: longest recorded time of a split [s].
        storage: 'mcap' or 'sqlite3'.

    Attributes:
        types: rosbags' message types, as ``types.types["std_msgs/msg/Header"]``.
        closed_messages: how many messages the closed splits have; after these `resume` continues.

    Raises:
        BagError: something is there already, or it is no bag that could be replaced or continued.
    """

    def __init__(
        self,
        path: Path,
        overwrite: bool = False,
        resume: bool = False,
        split_s: float = 10.0,
        storage: str = "mcap",
    ) -> None:
        if storage not in SUFFIXES:
            raise BagError(f"bags are stored as {' or '.join(SUFFIXES)}, not as '{storage}'")
        self.path, self._split_ns, self._storage = path, round(split_s * 1e9), storage
        self.types = typestore()
        self.closed_messages = 0
        self._metadata: dict[str, Any] = {}
        self._writer: Any = None
        self._connections: dict[tuple[str, str], Any] = {}
        self._begin_ns = 0
        self._replaces = False
        self._claim(overwrite, resume)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Close, whether or not something was raised: what was written can be read."""
        self.close()

    def write(self, topic: str, type: str, recorded_ns: int, content: Any) -> None:
        """Write a message.

        Args:
            topic: its name, as '/camera/image'.
            type: as 'sensor_msgs/msg/Image'.
            recorded_ns: its time in the bag [ns].
            content: of `types`.

        Raises:
            BagError: it cannot be written; the disk is full, say.
        """
        try:
            # Who goes back in time begins a split as well: it would hold more than its share otherwise.
            if self._writer is not None and not 0 <= recorded_ns - self._begin_ns < self._split_ns:
                self._close_split()
            if self._writer is None:
                self._open_split(recorded_ns)
            if (topic, type) not in self._connections:
                connection = self._writer.add_connection(topic, type, typestore=self.types)
                self._connections[topic, type] = connection
            data = self.types.serialize_cdr(content, type)
            self._writer.write(self._connections[topic, type], recorded_ns, data)
        except OSError as error:
            raise BagError(f"bag {self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the open split; the bag can be read then.

        Without messages an empty folder is left, or the bag that was to be replaced.

        Raises:
            BagError: it cannot be written.
        """
        try:
            if self._writer is not None:
                self._close_split()
        except OSError as error:
            raise BagError(f"bag {self.path} cannot be written: {error}") from error

    def _claim(self, overwrite: bool, resume: bool) -> None:
        if self.path.exists():
            if not self.path.is_dir():
                raise BagError(f"{self.path} is a file; a bag is a folder, give another path")
            if foreign := [p.name for p in self.path.iterdir() if not _of_a_bag(p)]:
                raise BagError(f"{self.path} holds '{foreign[0]}', which is of no bag; give another path")
            if resume:
                self._go_on()
            elif overwrite:
                self._replaces = True
            else:
                raise BagError(f"bag {self.path} exists already; give --overwrite, or another path")
        self.path.mkdir(parents=True, exist_ok=True)

    def _go_on(self) -> None:
        killed = (self.path / OPEN_SPLIT).is_dir()
        shutil.rmtree(self.path / OPEN_SPLIT, ignore_errors=True)
        if not any(self.path.iterdir()):
            return
        splits = find_splits(self.path)
        if not splits.metadata:
            # Killed between a file's move and its listing, which the next split replaces.
            if killed and not splits.problem:
                return
            problem = splits.problem or f"without {METADATA} it was not written here"
            raise BagError(f"bag {self.path} cannot be continued: {problem}")
        self._metadata = splits.metadata
        if self._metadata["storage_identifier"] != self._storage:
            raise BagError(
                f"bag {self.path} is stored as {self._metadata['storage_identifier']}, it cannot be"
                f" continued as {self._storage}"
            )
        self.closed_messages = int(self._metadata["message_count"])

    def _open_split(self, recorded_ns: int) -> None:
        try:
            from rosbags.rosbag2 import StoragePlugin, Writer
        except ImportError as error:
            raise rosbags_missing(error) from None
        if self._replaces:
            shutil.rmtree(self.path)
            self.path.mkdir()
            self._replaces = False
        shutil.rmtree(self.path / OPEN_SPLIT, ignore_errors=True)
        plugin = StoragePlugin.MCAP if self._storage == "mcap" else StoragePlugin.SQLITE3
        self._writer = Writer(self.path / OPEN_SPLIT, version=VERSION, storage_plugin=plugin)
        self._writer.open()
        self._connections = {}
        self._begin_ns = recorded_ns

    def _close_split(self) -> None:
        writer, self._writer = self._writer, None
        writer.close()
        folder = self.path / OPEN_SPLIT
        metadata = load_yaml((folder / METADATA).read_text(encoding="utf-8"))
        split = metadata["rosbag2_bagfile_information"]
        number = len(self._metadata.get("files", []))
        name = f"{self.path.name}_{number}{SUFFIXES[self._storage]}"
        os.replace(folder / split["relative_file_paths"][0], self.path / name)
        split["relative_file_paths"] = [name]
        split["files"][0]["path"] = name
        self._metadata = _joined(self._metadata, split) if self._metadata else split
        content = yaml.safe_dump({"rosbag2_bagfile_information": self._metadata}, sort_keys=False)
        temporary = folder / METADATA
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, self.path / METADATA)
        self.closed_messages = int(self._metadata["message_count"])
        shutil.rmtree(folder)


def _joined(bag: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a bag with one more split."""
    counts = {_key(t): int(t["message_count"]) for t in bag["topics_with_message_count"]}
    topics = {_key(t): t for t in (*bag["topics_with_message_count"], *split["topics_with_message_count"])}
    for t in split["topics_with_message_count"]:
        counts[_key(t)] = counts.get(_key(t), 0) + int(t["message_count"])
    begins = [part["starting_time"]["nanoseconds_since_epoch"] for part in (bag, split)]
    ends = [begin + part["duration"]["nanoseconds"] for begin, part in zip(begins, (bag, split))]
    return {
        **bag,
        "relative_file_paths": [*bag["relative_file_paths"], *split["relative_file_paths"]],
        "duration": {"nanoseconds": max(ends) - min(begins)},
        "starting_time": {"nanoseconds_since_epoch": min(begins)},
        "message_count": bag["message_count"] + split["message_count"],
        "topics_with_message_count": [{**t, "message_count": counts[key]} for key, t in topics.items()],
        "files": [*bag["files"], *split["files"]],
    }


def _of_a_bag(path: Path) -> bool:
    return path.name in (METADATA, OPEN_SPLIT) or path.name.endswith((*BAG_SUFFIXES, *DATABASE_COMPANIONS))


def _key(topic: dict[str, Any]) -> tuple[str, str]:
    return topic["topic_metadata"]["name"], topic["topic_metadata"]["type"]
