"""What tells which labels belong to an image: stamps, or where these do not serve the times recorded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

from rt_segmentation.bags.reading import Message

Moment = Callable[[Message], int]
"""The time of a message by which it is paired [ns]."""
Times = tuple[int, int]
"""Stamp and recorded time of a message [ns]."""
OTHER_CLOCK_NS = 2_000_000_000
"""Labels whose stamps are so far from the images' while both came together have another clock."""


def stamp_of(message: Message) -> int:
    """The stamp of a message's header [ns]."""
    stamp = message.content.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def recorded_of(message: Message) -> int:
    """When a message was recorded [ns]."""
    return message.recorded_ns


def times_of(message: Message) -> Times:
    """Both."""
    return stamp_of(message), message.recorded_ns


def choose_moment(images: Sequence[Times], labels: Sequence[Times]) -> tuple[Moment, str]:
    """What the images of a bag are paired by.

    Args:
        images: of the first ones.
        labels: of the first ones; empty if they come from no topic.

    Returns:
        `stamp_of`, or `recorded_of` with a sentence why.
    """
    known, labelled = ({stamp for stamp, _ in times} for times in (images, labels))
    for what, times, stamps in (("images", images, known), ("labels", labels, labelled)):
        different = len(stamps)
        if times and (different * 2 <= len(times) or not any(stamps)):
            # Labels that are published again and again: their stamps repeat, and are those of images.
            if times is labels and 1 < different == len(labelled & known):
                continue
            found = "are all 0" if not any(stamps) else f"are {different} different ones"
            return recorded_of, (
                f"the stamps of the first {len(times)} {what} {found} and do not tell them apart: images and"
                " labels are paired by the time at which they were recorded"
            )
    if not images or not labels:
        return stamp_of, ""
    fewer = min(len(known), len(labelled))
    # Labels far away in time may be some image's all the same, though hardly its own: stamps that are copied
    # are equal.
    equal = len(known & labelled)
    apart_ns = _apart(images, labels)
    if equal * 2 >= fewer or abs(apart_ns) < OTHER_CLOCK_NS or _together(images, labels) * 2 < fewer:
        return stamp_of, ""
    return recorded_of, (
        f"the labels have another clock, their stamps are {seconds(apart_ns)} than those of the images that"
        " came with them: images and labels are paired by the time at which they were recorded"
    )


def exactness(images: Sequence[Times], labels: Sequence[Times]) -> str:
    """A sentence, if labels have the stamps of no images: the nearest may be the wrong ones.

    Args:
        images: of the first ones.
        labels: of the first ones.
    """
    known = sorted(stamp for stamp, _ in images)
    if not known or not labels or set(known).intersection(stamp for stamp, _ in labels):
        return ""
    apart_ns = median(min((image - label for image in known), key=abs) for label, _ in labels)
    return (
        f"none of the first {len(labels)} labels has the stamp of an image; the nearest ones are"
        f" {seconds(apart_ns)} in the middle, the images are {period(images, stamp_of) / 1e9:.3f} s apart;"
        f" the labels that came with an image are stamped {seconds(_apart(images, labels))}"
    )


def period(images: Sequence[Times], moment: Moment, default_ns: int = 33_333_333) -> int:
    """The median gap between images [ns]."""
    # Not the bag's duration by the number of images: other topics and pauses are in that.
    moments = sorted(times[moment is recorded_of] for times in images)
    return round(median([after - before for before, after in pairwise(moments)] or [0])) or default_ns


def seconds(apart_ns: float) -> str:
    """Format a difference of times, as '1.500 s later'."""
    return f"{abs(apart_ns) / 1e9:.3f} s {'later' if apart_ns > 0 else 'earlier'}"


def _apart(images: Sequence[Times], labels: Sequence[Times]) -> float:
    """By how much labels are stamped later than images that come at the same time [ns]."""
    late = (median(stamp - recorded for stamp, recorded in times) for times in (labels, images))
    return next(late) - next(late)


def _together(images: Sequence[Times], labels: Sequence[Times]) -> int:
    """How many images had labels of their own recorded within half a period."""
    half_ns = period(images, recorded_of) // 2
    known = sorted(recorded for _, recorded in images)
    found = set[int]()
    for _, label in labels:
        place = bisect_left(known, label)
        found.update(image for image in known[max(place - 1, 0) : place + 1] if abs(image - label) <= half_ns)
    return len(found)
