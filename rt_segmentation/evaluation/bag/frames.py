"""The image messages of a bag in order, each with its ground truth."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rt_segmentation.bags.reading import Message
from rt_segmentation.evaluation.bag.clock import Moment, stamp_of
from rt_segmentation.evaluation.bag.truth import NEAR_NS, ReadIds, Truth

MAX_WAITING, MIN_WAITING, WAITING_BYTES = 512, 64, 2**30
"""How many images wait for their labels: 240 Hz for 2 s at most, these bytes, and some in any case."""
PASSED = 8
"""Of so many images before it an image knows which labels were theirs."""


@dataclass(frozen=True, eq=False)
class BagFrame:
    """An image message of a bag.

    Attributes:
        index: how many image messages the bag has before it.
        message: as recorded.
        truth: class ids as stored, uint8 (H, W), or None.
        problem: why there is no truth where there should be one, or None.
        apart_ns: by how much the nearest labels are later than the image where none are its own, or None.
    """

    index: int
    message: Message
    truth: np.ndarray | None
    problem: str | None = None
    apart_ns: int | None = None


def with_truth(
    messages: Iterable[Message],
    image_topic: str,
    truth: Truth,
    moment: Moment = stamp_of,
    first: int = 0,
) -> Iterator[BagFrame]:
    """Pair the images of a bag with their labels, which may be recorded before or after them.

    Args:
        messages: of the image topic and, where there is one, of the label topic, in the order recorded.
        image_topic: tells which is which.
        truth: where the labels come from.
        moment: what images and labels are paired by.
        first: the index of the first frame that is wanted; those before it are paired all the same.
    """
    waiting: deque[tuple[int, Message]] = deque()
    passed: deque[int] = deque(maxlen=PASSED)
    course = _Course()
    index = 0

    def others() -> list[int]:
        return [*passed, *(moment_ns for moment_ns, _ in itertools.islice(waiting, 1, None))]

    def pair() -> Iterator[BagFrame]:
        nonlocal index
        around = others()
        moment_ns, message = waiting.popleft()
        passed.append(moment_ns)
        apart_ns, read = truth.distance(moment_ns), truth.find(moment_ns, around)
        index += 1
        if index > first:
            yield _frame(index - 1, message, read, apart_ns)

    for message in messages:
        if message.topic == image_topic:
            moment_ns = moment(message)
            begun = course.follow(moment_ns, message.recorded_ns)
            if begun is not None:
                truth.restart(*begun)
            waiting.append((moment_ns, message))
        else:
            truth.offer(message)
        while waiting and (
            (truth.is_settled(waiting[0][0], others()) and not course.doubts(waiting[0][0]))
            or len(waiting) > _most(waiting[0][1])
            or abs(message.recorded_ns - waiting[0][1].recorded_ns) > NEAR_NS
        ):
            yield from pair()
    while waiting:
        yield from pair()


class _Course:
    """Whether the moments of images go on or have begun anew; one of them elsewhere is no new beginning."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._elsewhere: tuple[int, int] | None = None

    def follow(self, moment_ns: int, recorded_ns: int) -> tuple[int, int] | None:
        """Take the next image's moment and recorded time; gives those with which a new course has begun."""
        if self._last_ns is None or abs(moment_ns - self._last_ns) <= NEAR_NS:
            self._last_ns, self._elsewhere = moment_ns, None
            return None
        before, self._elsewhere = self._elsewhere, (moment_ns, recorded_ns)
        if before is None or abs(moment_ns - before[0]) > NEAR_NS:
            return None
        is_anew = moment_ns < self._last_ns
        self._last_ns, self._elsewhere = moment_ns, None
        return before if is_anew else None

    def doubts(self, moment_ns: int) -> bool:
        """Whether the next image must tell whether a new course begins with this one."""
        return self._elsewhere is not None and self._elsewhere[0] == moment_ns < (self._last_ns or 0)


def _most(image: Message) -> int:
    """How many such images may wait."""
    size = len(getattr(image.content, "data", b"")) or 1
    return min(MAX_WAITING, max(MIN_WAITING, WAITING_BYTES // size))


def _frame(index: int, message: Message, read: ReadIds | None, apart_ns: int | None) -> BagFrame:
    if read is None:
        return BagFrame(index, message, None, apart_ns=apart_ns)
    try:
        return BagFrame(index, message, read())
    except ValueError as error:
        return BagFrame(index, message, None, str(error))
