"""The image messages of a bag in order, each with its ground truth."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rt_segmentation.bags.reading import Message
from rt_segmentation.evaluation.bag.clock import Moment, stamp_of
from rt_segmentation.evaluation.bag.truth import NEAR_NS, Truth

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
    counted_ns: int | None = None,
    next_index: int = 0,
) -> Iterator[BagFrame]:
    """Pair the images of a bag with their labels, which may be recorded before or after them.

    Args:
        messages: of the image topic and, where there is one, of the label topic, in the order recorded.
        image_topic: tells which is which.
        truth: where the labels come from.
        moment: what images and labels are paired by.
        counted_ns: recorded time of the last frame that was counted before, None without any.
        next_index: the index of the first frame after it.
    """
    waiting: deque[tuple[int, Message]] = deque()
    passed: deque[int] = deque(maxlen=PASSED)
    index = next_index

    def others() -> list[int]:
        return [*passed, *(moment_ns for moment_ns, _ in itertools.islice(waiting, 1, None))]

    def pair() -> BagFrame:
        nonlocal index
        around = others()
        moment_ns, message = waiting.popleft()
        passed.append(moment_ns)
        frame = _pair(index, message, truth, moment_ns, around)
        index += counted_ns is None or message.recorded_ns > counted_ns
        return frame

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
            yield pair()
    while waiting:
        yield pair()


def _pair(index: int, message: Message, truth: Truth, moment_ns: int, others: Collection[int]) -> BagFrame:
    apart_ns = truth.distance(moment_ns)
    try:
        labels = truth.find(moment_ns, others)
    except ValueError as error:
        return BagFrame(index, message, None, str(error))
    return BagFrame(index, message, labels, apart_ns=apart_ns if labels is None else None)
