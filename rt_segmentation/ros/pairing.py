"""Why masks and what should go with them do not come together, in sentences."""

from __future__ import annotations

from typing import Any

from rt_segmentation.ros.topic_input import TopicInput
from rt_segmentation.runtime.synchronizer import KEPT, KEPT_NS, ROOM_BYTES, Synchronizer

_ROOM = f"{ROOM_BYTES // 10**6} MB"


def why_apart(sync: Synchronizer[Any], mask: TopicInput, source: TopicInput, tolerance_s: float) -> str:
    """Why no message of a topic has gone with a mask; empty where nothing is known.

    Args:
        sync: has the messages of both under the names of their inputs.
        mask: the first topic's input.
        source: the other one's.
        tolerance_s: how far stamps may be apart [s].
    """
    small = f", or a lower resolution or rate of {source.topic}" if sync.crowded[source.name] else ""
    advice = "and clocks that agree, but not sync_tolerance_s"
    if (late_ns := sync.late_ns(mask.name, source.name)) is not None:
        return (
            f"{source.topic} was dropped before its mask came: the stamps on {mask.topic} are "
            f"{late_ns / 1e9:.1f} s behind, and {_kept(sync, source.name)}; what helps are faster masks, as "
            f"of a smaller network or input{small}, {advice}"
        )
    if (late_ns := sync.late_ns(source.name, mask.name)) is not None:
        return (
            f"masks were dropped before their {source.name} came: the stamps on {source.topic} are "
            f"{late_ns / 1e9:.1f} s behind those on {mask.topic}, and {_kept(sync, mask.name)}; what helps "
            f"is to send it sooner, {advice}"
        )
    gap_ns = sync.gap_ns(source.name)
    if gap_ns is None or abs(gap_ns) <= tolerance_s * 1e9:
        return ""
    way = "ahead of" if gap_ns > 0 else "behind"
    return (
        f"the stamps on {source.topic} are {abs(gap_ns) / 1e9:.3f} s {way} those on {mask.topic}, more than "
        f"sync_tolerance_s {tolerance_s:g}"
    )


def no_room(sync: Synchronizer[Any], source: TopicInput) -> str:
    """That messages of a topic were dropped for want of room, and what helps."""
    return (
        f"what waits for masks has {_ROOM}, and is dropped beyond: {sync.span_ns(source.name) / 1e9:.1f} s "
        f"of {source.topic} are kept; a lower resolution or rate of it keeps more (this is said once)"
    )


def _kept(sync: Synchronizer[Any], name: str) -> str:
    if sync.crowded[name]:
        return f"{_ROOM} hold {sync.span_ns(name) / 1e9:.1f} s"
    return f"{KEPT_NS / 1e9:g} s, or {KEPT} messages, are kept"
