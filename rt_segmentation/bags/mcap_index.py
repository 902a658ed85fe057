"""Whether the index of an MCAP file tells of all its messages.

Message indexes, chunks, statistics and the repetition of channels are optional, and what rosbags' reader does
not find it takes for not there: it passes over a chunk without message indexes, and without chunk indexes it
refuses messages that are not in the order of time.
"""

from __future__ import annotations

from collections import Counter
from typing import Any


def lists_all(storage: Any) -> bool:
    """Whether rosbags' reader of a file finds all messages, in the order of time."""
    indexed = _indexed(storage)
    known = {connection.id for connection in storage.connections}
    return (
        bool(storage.chunks)
        and all(chunk.channel_count for chunk in storage.chunks)
        and indexed.keys() <= known
        and all(indexed[connection.id] >= connection.msgcount for connection in storage.connections)
    )


def counts_all(storage: Any) -> bool:
    """Whether the counts of rosbags' reader are of all messages."""
    count = sum(connection.msgcount for connection in storage.connections)
    if count != storage.metadata.message_count:
        return False
    # More than is indexed comes from statistics in the file.
    every = all(chunk.channel_count for chunk in storage.chunks)
    return every or count > sum(_indexed(storage).values())


def _indexed(storage: Any) -> Counter[int]:
    """How many messages of each channel the index lists."""
    indexed = Counter[int]()
    for chunk in storage.chunks:
        indexed.update(chunk.channel_count)
    return indexed
