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

MAX_WAITING = 512
"""So many images wait for their labels at most: 240 Hz for 2 s."""
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
            before_ns = waiting[-1][0] if waiting else passed[-1] if passed else moment_ns
            if moment_ns < before_ns - NEAR_NS:
                truth.restart(moment_ns, message.recorded_ns)
            waiting.append((moment_ns, message))
        else:
            truth.offer(message)
        while waiting and (
            truth.is_settled(waiting[0][0], others())
            or len(waiting) > MAX_WAITING
            or abs(message.recorded_ns - waiting[0][1].recorded_ns) > NEAR_NS
        ):
            yield from pair()
    while waiting:
        yield from pair()


def _frame(index: int, message: Message, read: ReadIds | None, apart_ns: int | None) -> BagFrame:
    if read is None:
        return BagFrame(index, message, None, apart_ns=apart_ns)
    try:
        return BagFrame(index, message, read())
    except ValueError as error:
        return BagFrame(index, message, None, str(error))
