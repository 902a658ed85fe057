"""The image messages of a bag in order, each with its ground truth."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rt_segmentation.bags.reading import Message
from rt_segmentation.evaluation.bag.clock import Moment, stamp_of
from rt_segmentation.evaluation.bag.truth import Truth

T = TypeVar("T")
MAX_WAITING = 64
"""So many images wait for their labels at most."""
MAX_WAIT_NS = 2_000_000_000
"""An image waits so long for its label, in the bag's time [ns]."""
POLL_S = 0.1


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
    waiting: deque[Message] = deque()
    index = next_index

    def pair() -> BagFrame:
        nonlocal index
        message = waiting.popleft()
        frame = _pair(index, message, truth, moment(message))
        index += counted_ns is None or message.recorded_ns > counted_ns
        return frame

    for message in messages:
        if message.topic == image_topic:
            waiting.append(message)
        else:
            truth.offer(message)
        while waiting and (
            truth.is_settled(moment(waiting[0]))
            or len(waiting) > MAX_WAITING
            or message.recorded_ns - waiting[0].recorded_ns > MAX_WAIT_NS
        ):
            yield pair()
    while waiting:
        yield pair()


def _pair(index: int, message: Message, truth: Truth, moment_ns: int) -> BagFrame:
    apart_ns = truth.distance(moment_ns)
    try:
        labels = truth.find(moment_ns)
    except ValueError as error:
        return BagFrame(index, message, None, str(error))
    return BagFrame(index, message, labels, apart_ns=apart_ns if labels is None else None)


def ahead(
    items: Iterable[T], depth: int, stop: threading.Event, waited: Callable[[int], None] = lambda _: None
) -> Generator[T, None, None]:
    """Pass items on, made by a thread of their own that is at most `depth` items ahead.

    Args:
        items: an exception that it raises is raised here.
        depth: of the queue.
        stop: ends both sides; so does closing this generator.
        waited: told how long an item had to wait for a place in the queue, if it had to [ns].
    """
    handed: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
    closed = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> None:
        try:
            return handed.put_nowait(entry)
        except queue.Full:
            began_ns = time.perf_counter_ns()
        while not (closed.is_set() or stop.is_set()):
            try:
                handed.put(entry, timeout=POLL_S)
            except queue.Full:
                continue
            return waited(time.perf_counter_ns() - began_ns)

    def make() -> None:
        try:
            for item in items:
                put((item,))
                if closed.is_set() or stop.is_set():
                    return
            put(None)
        # Whatever it is belongs to the one who asked for the items.
        except BaseException as error:
            put(error)
        finally:
            # A generator may hold a thread of its own.
            getattr(items, "close", lambda: None)()

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while not stop.is_set():
            try:
                entry = handed.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if entry is None:
                return
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        closed.set()
        maker.join()
