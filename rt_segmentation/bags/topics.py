"""The topics of a bag, and the choice of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rt_segmentation.bags.errors import BagError


@dataclass(frozen=True)
class Topic:
    """A topic: `type` as 'sensor_msgs/msg/Image', `count` messages."""

    name: str
    type: str
    count: int


def merged(topics: Iterable[Topic]) -> tuple[Topic, ...]:
    """Each topic once, with the messages of all its publishers, which have connections of their own."""
    counts: dict[tuple[str, str], int] = {}
    for topic in topics:
        counts[topic.name, topic.type] = counts.get((topic.name, topic.type), 0) + topic.count
    return tuple(Topic(name, kind, count) for (name, kind), count in counts.items())


def choose_topic(topics: Sequence[Topic], asked: str | None, types: Collection[str], what: str) -> Topic:
    """The topic that is asked for, or the only one of the wanted types.

    Args:
        topics: of the bag.
        asked: its name, with or without the leading slash; None leaves the choice to the bag.
        types: that will do.
        what: it is for, 'image' or 'label'; the option that gives it is named after that.

    Raises:
        BagError: there is none, it has another type, or there are several; the message lists them.
    """
    possible = [topic for topic in topics if topic.type in types]
    listed = ", ".join(f"{topic.name} ({topic.count} messages)" for topic in possible)
    if asked is None:
        if len(possible) == 1:
            return possible[0]
        if not possible:
            raise BagError(f"the bag has no {what} topic ({' or '.join(types)}); it has {_all(topics)}")
        raise BagError(f"the bag has several {what} topics, choose one with --{what}-topic: {listed}")
    for topic in topics:
        if topic.name.lstrip("/") == asked.lstrip("/"):
            if topic in possible:
                return topic
            raise BagError(f"{what} topic {asked} is {topic.type}, it must be {' or '.join(types)}")
    raise BagError(f"the bag has no topic {asked}; for {what} it has {listed or 'none, but ' + _all(topics)}")


def _all(topics: Sequence[Topic]) -> str:
    return ", ".join(f"{topic.name} ({topic.type})" for topic in topics) or "no topics at all"
