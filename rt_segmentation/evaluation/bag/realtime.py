"""Frames of a bag at the times at which they were recorded; as in the node, the newest one wins."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rt_segmentation.evaluation.bag.frames import BagFrame, ahead
from rt_segmentation.evaluation.bag.outcome import Dropped, Outcome, Segmented
from rt_segmentation.evaluation.bag.throughput import decode, segment
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.runtime.slot import NewestSlot

READ_AHEAD = 8
MASKS_AHEAD = 64
POLL_S = 0.1


class Replay:
    """One model on one bag in real time.

    Confidence is not computed, as in a node to whose confidence nobody listens.

    Args:
        segmenter, model: the model and its number.
        rate: speed of the bag's clock, 2 for twice as fast.
        stop: ends it early.
        levels: of the bag's 16-bit images.

    Attributes:
        late_ns: by how much the reader handed over a frame too late, at worst [ns].
        held_up_ns: how long the model waited for those who use the outcomes [ns].
    """

    def __init__(
        self, segmenter: Segmenter, model: int, rate: float, stop: threading.Event, levels: Levels
    ) -> None:
        self._levels = levels
        self._segmenter, self._model, self._rate, self._stop = segmenter, model, rate, stop
        # Frames with the time at which they are due [ns, of perf_counter].
        self._slot: NewestSlot[tuple[int, BagFrame]] = NewestSlot()
        self._replaced: deque[BagFrame] = deque()
        self._fed, self._closing = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self.late_ns = self.held_up_ns = 0

    def run(self, frames: Iterable[BagFrame]) -> Iterator[Outcome]:
        """Play the frames.

        Yields:
            What became of each, soon after it is known.
        """
        yield from ahead(self._work(frames), MASKS_AHEAD, self._stop, self._wait)

    def _wait(self, waited_ns: int) -> None:
        self.held_up_ns += waited_ns

    def _work(self, frames: Iterable[BagFrame]) -> Iterator[Outcome]:
        feeder = threading.Thread(target=self._feed, args=(frames,), daemon=True)
        feeder.start()
        before_ns: int | None = None
        try:
            while not self._stop.is_set():
                fed = self._fed.is_set()
                taken = self._slot.take(POLL_S)
                while self._replaced:
                    yield Dropped(self._model, self._replaced.popleft(), "replaced")
                if taken is not None:
                    due_ns, source = taken
                    outcome = segment(
                        self._model, self._segmenter, decode(source, self._levels), confidence=False
                    )
                    if isinstance(outcome, Segmented):
                        now_ns = time.perf_counter_ns()
                        age_ns = None if before_ns is None else now_ns - before_ns
                        outcome, before_ns = (
                            replace(outcome, latency_ns=now_ns - due_ns, age_ns=age_ns),
                            due_ns,
                        )
                    yield outcome
                elif fed:
                    break
            if self._error is not None:
                raise self._error
        finally:
            self._closing.set()
            feeder.join()

    def _feed(self, frames: Iterable[BagFrame]) -> None:
        try:
            begin_ns = first_ns = None
            for source in ahead(frames, READ_AHEAD, self._closing):
                recorded_ns = source.message.recorded_ns
                if begin_ns is None or first_ns is None:
                    begin_ns, first_ns = time.perf_counter_ns(), recorded_ns
                due_ns = begin_ns + round((recorded_ns - first_ns) / self._rate)
                if self._closing.wait(max(0, due_ns - time.perf_counter_ns()) / 1e9):
                    return
                self.late_ns = max(self.late_ns, time.perf_counter_ns() - due_ns)
                replaced = self._slot.put((due_ns, source))
                if replaced is not None:
                    self._replaced.append(replaced[1])
        # The worker raises it, where somebody sees it.
        except BaseException as error:
            self._error = error
        finally:
            self._fed.set()
