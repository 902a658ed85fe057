"""The sizes that an engine is ready for; for others it is built beside the frames, not in their way."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.inference.engines import Engine, EngineError
from rt_segmentation.inference.engines.fallback import RETRY_S
from rt_segmentation.runtime.heap import give_memory_back

logger = logging.getLogger(__name__)

KEPT = 4
"""So many sizes stay ready; the one that was not used for the longest time is let go."""

SIGHTINGS, AMONG = 3, 100
"""An engine is built for a size that came so often among so many last frames: a damaged header comes once."""

MAX_SQUEEZE = 2.0
"""Where one side shrinks more than the other by this factor a network recognises nothing."""

Size = tuple[int, int]
"""Width and height [px]."""


class Seen(NamedTuple):
    """How a frame is to be seen: the network's (width, height) [px], and whether with confidence."""

    size: Size
    confidence: bool


class _Failure(NamedTuple):
    """When an engine could not be built [s, monotonic], and why."""

    since: float
    sentence: str


class Closed(Exception):
    """A frame that waited for an engine will not be seen."""


class Sizes:
    """Says at which size a frame is seen now, and has the engine built for its own size meanwhile.

    The first size of all is built immediately, and its frames wait: there is nothing to show before. What was
    prepared for a camera that then has another size is let go. Any other size
    must come `SIGHTINGS` times. Until its engine is ready its frames are squeezed into the nearest size that
    is, or dropped where that would be too much. Frames come one at a time, from any thread.

    Args:
        engine: that runs the frames; whoever has it compute at other sizes does not use it through this.
        around: entered by the thread that builds, for as long as it does.
    """

    def __init__(
        self,
        engine: Engine,
        around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._engine, self._around = engine, around
        self._changed = threading.Condition()
        # With which and without which confidence, the size used last at the end.
        self._ready: OrderedDict[Size, set[bool]] = OrderedDict()
        self._recent: deque[Size] = deque(maxlen=AMONG)
        self._failed: dict[Seen, _Failure] = {}
        self._building: Seen | None = None
        self._thread: threading.Thread | None = None
        self._open = True

    @property
    def building(self) -> str:
        """What is being built and what happens to its frames, in words; empty if nothing is."""
        with self._changed:
            if self._building is None:
                return ""
            (width, height), confidence = self._building
            words = f"building the engine for {width}x{height}"
            if self._building.size in self._ready:
                return f"{words} {'with' if confidence else 'without'} confidence"
            nearest = self._nearest(self._building.size)
            if nearest is not None:
                return f"{words}, its images are squeezed to {nearest[0]}x{nearest[1]} until then"
            return f"{words}, its images are dropped until then" if self._ready else words

    @property
    def is_busy(self) -> bool:
        """Whether a thread is building still."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self, size: Size, confidence: bool = False) -> None:
        """Build the engine for a size now, in this thread.

        Raises:
            EngineError: it cannot run the model at this size.
        """
        wanted = Seen(size, confidence)
        with self._changed:
            self._building = wanted
        try:
            with self._around():
                self._engine.prepare(1, size[1], size[0], confidence)
        except BaseException as error:
            self._finish(wanted, str(error))
            raise
        self._finish(wanted, "")

    def choose(self, size: Size, confidence: bool) -> Seen:
        """How a frame is to be seen whose own size is this; waits where nothing is ready yet.

        Raises:
            EngineError: the engine cannot be built for its size.
            ImageError: its shape is far from all that is ready.
            Closed: `close` was called while it waited.
        """
        wanted = Seen(size, confidence)
        with self._changed:
            if not self._recent and size not in self._ready:
                self._let_go_all()
            self._recent.append(size)
            while True:
                failure = self._failure(wanted)
                if size in self._ready:
                    self._ready.move_to_end(size)
                    if confidence in self._ready[size]:
                        return wanted
                    if not failure:
                        self._start(wanted)
                    # With confidence instead of without is slower; without instead of with lacks a topic.
                    return Seen(size, not confidence)
                if failure:
                    raise EngineError(failure)
                if not self._ready or self._recent.count(size) >= SIGHTINGS:
                    self._start(wanted)
                nearest = self._nearest(size)
                if nearest is not None:
                    return Seen(nearest, confidence if confidence in self._ready[nearest] else not confidence)
                if self._ready:
                    raise ImageError(
                        "no_engine_yet",
                        f"the network would see an image at {size[0]}x{size[1]}, and no engine is ready for"
                        f" that shape; one is built for what comes {SIGHTINGS} times",
                    )
                if not self._open:
                    raise Closed
                self._changed.wait()

    def open(self) -> None:
        """Frames may wait again."""
        with self._changed:
            self._open = True

    def close(self) -> None:
        """Let go the frames that wait, and begin to build nothing; what is being built comes to its end."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _failure(self, wanted: Seen) -> str:
        """Why its engine could not be built a short time ago; empty where it may be tried."""
        failure = self._failed.get(wanted)
        if failure is None:
            return ""
        if time.monotonic() - failure.since < RETRY_S:
            return failure.sentence
        del self._failed[wanted]
        return ""

    def _start(self, wanted: Seen) -> None:
        if self._building is not None or not self._open:
            return
        self._building = wanted
        self._thread = threading.Thread(target=self._build, args=(wanted,), name="building", daemon=True)
        self._thread.start()

    def _build(self, wanted: Seen) -> None:
        (width, height), confidence = wanted
        failure = ""
        try:
            with self._around():
                self._engine.prepare(1, height, width, confidence)
        except EngineError as error:
            failure = str(error)
        # An engine can fail in ways of its own, and the frames must be told.
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        self._finish(wanted, failure)

    def _finish(self, wanted: Seen, failure: str) -> None:
        released = []
        with self._changed:
            self._building = None
            if failure:
                self._failed[wanted] = _Failure(time.monotonic(), failure)
            else:
                self._ready.setdefault(wanted.size, set()).add(wanted.confidence)
                self._ready.move_to_end(wanted.size)
            while len(self._ready) > KEPT:
                released.append(self._ready.popitem(last=False)[0])
            self._changed.notify_all()
        for width, height in released:
            logger.info("the engine for %dx%d is let go: %d other sizes came since", width, height, KEPT)
            self._engine.release(height, width)
        give_memory_back()

    def _let_go_all(self) -> None:
        for width, height in self._ready:
            logger.info("the engine for %dx%d is let go: the first image has another size", width, height)
            self._engine.release(height, width)
        self._ready.clear()

    def _nearest(self, size: Size) -> Size | None:
        """The size that is ready and distorts an image the least."""
        if not self._ready:
            return None
        nearest = min(self._ready, key=lambda ready: _squeeze(size, ready))
        return nearest if _squeeze(size, nearest) <= MAX_SQUEEZE else None


def _squeeze(size: Size, into: Size) -> float:
    ratio = size[0] * into[1] / (size[1] * into[0])
    return max(ratio, 1 / ratio)
