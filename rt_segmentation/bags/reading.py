"""Bags read message by message: rosbag2 (MCAP, SQLite; compressed, split) and ROS 1, whole or damaged."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rt_segmentation.bags.errors import BagError, Broken, rosbags_missing
from rt_segmentation.bags.splits import METADATA, decompress_message, decompressed, find_splits
from rt_segmentation.bags.storage import Record, Summary, records, summarise
from rt_segmentation.bags.topics import Topic, merged

TF_MESSAGE = "tf2_msgs/msg/TFMessage"


@dataclass(frozen=True, eq=False)
class Message:
    """A message of a bag: `type` as 'sensor_msgs/msg/Image', `content` as rosbags deserialises it."""

    topic: str
    type: str
    recorded_ns: int
    content: Any


class BagReader:
    """Reads a bag as far as it is whole; a context manager.

    One message is in memory at a time, and of an MCAP file the chunks that overlap in time; of a file that is
    compressed as a whole a decompressed copy lies in a temporary folder meanwhile.

    Args:
        path: a rosbag2 folder, one of its files, or a ROS 1 bag.

    Attributes:
        topics: by name; of ones in a folder with metadata.yaml as listed there.
        start_ns, end_ns: recorded times of the first and last message; 0 in an empty bag.
        message_count: that metadata.yaml promises, None without one.
        notes: sentences about what is read in place of what metadata.yaml says.
        damage: known after `messages`: a sentence that says at which message a file broke, or None.
        lost: known after `messages`: how many of the messages that metadata.yaml promises for its topics did
            not come; None without metadata.

    Raises:
        BagError: there is no bag, or nothing in it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._splits = find_splits(path)
        self.damage: str | None = None
        self.lost: int | None = None
        metadata = self._splits.metadata
        self.message_count: int | None = int(metadata["message_count"]) if metadata else None
        self.notes = [f"bag {path}: {self._splits.note}"] if self._splits.note else []
        self.topics = self._splits.topics or ()
        if any(topic.count for topic in self.topics):
            self.start_ns = int(metadata["starting_time"]["nanoseconds_since_epoch"])
            self.end_ns = self.start_ns + int(metadata["duration"]["nanoseconds"])
            return
        # Without messages the times in the metadata mean nothing.
        topics, self.start_ns, self.end_ns = self._look()
        if metadata and any(topic.count for topic in topics):
            self.notes.append(f"bag {path}: {METADATA} promises no messages, the files have some")
            self.message_count = None
        self.topics = topics or self.topics

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between two calls of `messages`."""

    def messages(self, topics: Collection[str]) -> Generator[Message, None, None]:
        """Yield the messages of some topics in the order recorded, each deserialised when it is read.

        What cannot be read is left out, and `damage` and `lost` say so afterwards.

        Args:
            topics: names, as in `topics`.

        Raises:
            BagError: a topic's type is none that this package knows, or rosbags is not installed.
        """
        count = damaged = first_damaged = 0
        for topic, kind, recorded_ns, data, ros1 in self._records(topics):
            content = self._deserialise(kind, data, ros1)
            if content is None:
                damaged += 1
                first_damaged = first_damaged or count + damaged
                continue
            count += 1
            yield Message(topic, kind, recorded_ns, content)
        if damaged:
            self.lost = None if self.lost is None else self.lost + damaged
            sentence = f"{damaged} of {count + damaged} messages are damaged, first message {first_damaged}"
            self.damage = f"{self.damage}; {sentence}" if self.damage else f"bag {self.path}: {sentence}"

    def times(self, topics: Collection[str]) -> Iterator[tuple[str, int]]:
        """Topic and recorded time [ns] of each message, of any type, not deserialised; then as `messages`."""
        for topic, _, recorded_ns, *_ in self._records(topics):
            yield topic, recorded_ns

    def _records(self, topics: Collection[str]) -> Iterator[Record]:
        """The messages as they are stored; sets `damage` and `lost` at the end."""
        self.damage, self.lost = None, None
        problems = [self._splits.problem] if self._splits.problem else []
        count = 0
        for file in self._splits.files:
            try:
                with decompressed(file) as plain, closing(records(plain, topics)) as found:
                    for record in found:
                        count += 1
                        yield record
            except (Broken, OSError) as error:
                problems.append(f"{file.name} {error}")
        promised = sum(topic.count for topic in self.topics if topic.name in topics)
        if self.message_count is not None:
            self.lost = max(promised - count, 0)
        if problems or self.lost:
            if self.lost is not None:
                problems.append(f"{self.lost} of {promised} messages are lost")
            self.damage = f"bag {self.path}: {'; '.join(problems)}"

    def _deserialise(self, kind: str, data: bytes, ros1: bool) -> Any | None:
        types = typestore(ros1)
        if kind not in types.types:
            raise BagError(f"bag {self.path}: messages of type {kind} are not known here")
        try:
            if ros1:
                return types.deserialize_ros1(data, kind)
            return types.deserialize_cdr(decompress_message(data), kind)
        # What this machine lacks is no damage.
        except BagError:
            raise
        # Damaged bytes break the deserialiser anywhere: lengths, indices, text.
        except Exception:
            return None

    def _look(self) -> tuple[tuple[Topic, ...], int, int]:
        """Topics and times of a bag without metadata, from its files; of an empty one the times are 0."""
        found: list[Summary] = []
        problem = ""
        for file in self._splits.files:
            try:
                with decompressed(file) as plain:
                    found.append(summarise(plain))
            except (Broken, OSError) as error:
                problem = problem or f"{file.name} {error}"
        spans = [summary.span_ns for summary in found if summary.span_ns is not None]
        if problem and not spans:
            raise BagError(f"nothing can be read of bag {self.path}: {problem}")
        topics = merged(topic for summary in found for topic in summary.topics)
        topics = tuple(sorted(topics, key=lambda topic: (topic.name, topic.type)))
        return topics, min((s[0] for s in spans), default=0), max((s[1] for s in spans), default=0)


@cache
def typestore(ros1: bool = False) -> Any:
    """The message types of ROS 2, or of ROS 1; those of images are the same in all distributions of either.

    Raises:
        BagError: rosbags is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise rosbags_missing(error) from None
    types = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    if TF_MESSAGE not in types.types:
        types.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF_MESSAGE))
    return types
