"""One file of a bag: what is in it, and its messages, as far as it is whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rt_segmentation.bags import mcap_index, mcap_salvage, ros1_salvage, sqlite_salvage
from rt_segmentation.bags.errors import BagError, Broken, rosbags_missing
from rt_segmentation.bags.splits import ZSTD_MAGIC, Splits, decompressed, is_compressed
from rt_segmentation.bags.topics import Topic, merged

Record = tuple[str, str, int, bytes, bool]
"""Topic, type as 'sensor_msgs/msg/Image', recorded time [ns], serialised message, whether that is ROS 1's."""
_ROS1_HEAD = 16384
"""The first chunk of a ROS 1 bag begins behind 4 kB of padded header [bytes]."""
SALVAGES = {".mcap": mcap_salvage, ".db3": sqlite_salvage, ".bag": ros1_salvage}


@dataclass(frozen=True)
class Summary:
    """What a file holds: topics with their counts, first and last recorded time [ns], if any."""

    topics: tuple[Topic, ...]
    span_ns: tuple[int, int] | None


def summarise(path: Path) -> Summary:
    """Look into a file; one without an index is read through.

    Raises:
        Broken: nothing in it can be read.
        BagError: rosbags is not installed, or too old.
    """
    _check(path)
    try:
        with _open(path) as reader:
            if path.suffix != ".mcap" or mcap_index.counts_all(reader.storage):
                topics = merged(Topic(c.topic, c.msgtype, c.msgcount) for c in reader.connections)
                span = (reader.start_time, reader.end_time - 1) if reader.message_count else None
                return Summary(topics, span)
    except BagError:
        raise
    # A damaged file can break its reader anywhere, in ways of every layer below it.
    except Exception as error:
        return _read_through(path, _reason(error))
    return _read_through(path, "")


def _read_through(path: Path, reason: str) -> Summary:
    """`summarise` without an index, which is damaged or missing for this reason."""
    counts, span = Counter[tuple[str, str]](), None
    try:
        for topic, kind, recorded_ns, *_ in _salvage(path, None):
            counts[topic, kind] += 1
            span = (min(span[0], recorded_ns), max(span[1], recorded_ns)) if span else (recorded_ns,) * 2
    except Broken as error:
        if not counts:
            raise Broken(f"cannot be read: {reason or error}") from error
    return Summary(tuple(Topic(name, kind, count) for (name, kind), count in counts.items()), span)


def records(path: Path, topics: Collection[str]) -> Generator[Record, None, None]:
    """The messages of some topics, by recorded time.

    Raises:
        Broken: at the end, if something is damaged, after all that could be read.
        BagError: rosbags is not installed, or too old.
    """
    _check(path)
    last_ns, last = -1, Counter[str]()
    ros1 = path.suffix == ".bag"
    reason = ""
    try:
        with _open(path) as reader:
            listed = path.suffix != ".mcap" or mcap_index.lists_all(reader.storage)
            wanted = [c for c in reader.connections if listed and c.topic in topics]
            if wanted:
                for connection, recorded_ns, data in reader.messages(wanted):
                    yield connection.topic, connection.msgtype, recorded_ns, bytes(data), ros1
                    if recorded_ns != last_ns:
                        last_ns, last = recorded_ns, Counter[str]()
                    last[connection.topic] += 1
    except BagError:
        raise
    # A damaged file can break its reader anywhere, in ways of every layer below it.
    except Exception as error:
        foreign = path.suffix == ".mcap" and mcap_salvage.is_foreign(path, error)
        reason = "" if _has_log(path) or foreign else _reason(error)
    else:
        missing = sqlite_salvage.missing_bytes(path) if path.suffix == ".db3" else 0
        if missing:
            raise Broken(
                f"lacks its last {missing} bytes, which may be a message's: zeros were read for them"
            )
        if listed:
            return
    with closing(_salvage(path, topics)) as salvaged:
        for record in salvaged:
            topic, _, recorded_ns, *_ = record
            # The reader's are by time, so these came from it.
            if recorded_ns < last_ns:
                continue
            if recorded_ns == last_ns and last[topic]:
                last[topic] -= 1
                continue
            yield record
    if reason:
        raise Broken(f"has a damaged index ({reason}) and was read from front to back")


def compression(splits: Splits) -> str:
    """What of a bag is compressed, and how: 'file (zstd)', 'message (zstd)', 'chunk (lz4)', or 'none'."""
    mode = str(splits.metadata.get("compression_mode") or "").lower()
    if mode and not splits.note:
        return f"{mode} ({splits.metadata.get('compression_format')})"
    first = next((file for file in splits.files if file.is_file()), None)
    if first is None:
        return "none"
    try:
        with decompressed(first) as plain:
            if is_compressed(first):
                return "file (zstd)"
            if plain.suffix == ".bag":
                with plain.open("rb") as file:
                    head = file.read(_ROS1_HEAD)
                found = {name.decode() for name in re.findall(rb"compression=(bz2|lz4)", head)}
            else:
                with _open(plain) as reader:
                    with closing(records(plain, {c.topic for c in reader.connections})) as messages:
                        message = next(messages, None)
                    if message is not None and message[3][:4] == ZSTD_MAGIC:
                        return "message (zstd)"
                    found = {chunk.compression for chunk in getattr(reader.storage, "chunks", ())} - {""}
    # A damaged file can break its reader anywhere; what its chunks are is not known then.
    except Exception:
        return "unknown"
    return f"chunk ({' and '.join(sorted(found))})" if found else "none"


def _check(path: Path) -> None:
    if not path.is_file():
        raise Broken("is missing")
    if not path.stat().st_size:
        raise Broken("is empty")


def _open(path: Path) -> Any:
    try:
        from rosbags.rosbag1 import Reader as Ros1Reader
        from rosbags.rosbag2 import Reader as Ros2Reader
    except ImportError as error:
        raise rosbags_missing(error) from None
    if _has_log(path):
        raise Broken("its recorder was killed")
    return Ros1Reader(path) if path.suffix == ".bag" else Ros2Reader(path)


def _has_log(path: Path) -> bool:
    """Whether messages lie in SQLite's write-ahead log, which rosbags does not read."""
    log = path.with_name(f"{path.name}-wal")
    return path.suffix == ".db3" and log.is_file() and log.stat().st_size > 0


def _salvage(path: Path, topics: Collection[str] | None) -> Generator[Record, None, None]:
    """Without the library's readers, which want a whole file.

    Raises:
        Broken: at the end, if something is damaged.
    """
    module: Any = SALVAGES[path.suffix]
    with closing(module.salvage(path, topics)) as found:
        yield from found


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
