"""Frames of a bag at the times at which they were recorded; as in the node, the newest one wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from rt_segmentation.evaluation.bag.frames import BagFrame
from rt_segmentation.evaluation.bag.outcome import Dropped, Outcome, Segmented
from rt_segmentation.evaluation.bag.throughput import decode, segment
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.runtime.lanes import OrderedLanes
from rt_segmentation.runtime.read_ahead import ReadAhead
from rt_segmentation.runtime.slot import NewestSlot

READ_AHEAD = 8
MASKS_AHEAD = 64
POLL_S = 0.1
PAUSE_S = 10.0
"""A longer pause between two images is played as one of this length [s]."""


class _Due(NamedTuple):
    """A frame with the time at which it is due [ns, of perf_counter]."""

    due_ns: int
    source: BagFrame


class Replay:
    """One model on one bag in real time.

    Confidence is not computed, as in a node to whose confidence nobody listens.

    Args:
        segmenters: of the model, one for each frame segmented concurrently.
        model: its number.
        rate: speed of the bag's clock, 2 for twice as fast.
        stop: ends it early.
        levels: of the bag's 16-bit images.

    Attributes:
        late_ns: by how much the reader handed over a frame too late, at worst [ns]; known at the end.
        held_up_ns: how long the model waited for those who use the outcomes [ns].
        skipped_ns: what was left out of pauses, as played [ns]; known at the end.
    """

    def __init__(
        self, segmenters: Sequence[Segmenter], model: int, rate: float, stop: threading.Event, levels: Levels
    ) -> None:
        self._levels = levels
        self._segmenters, self._model, self._rate, self._stop = segmenters, model, rate, stop
        self._slot: NewestSlot[_Due] = NewestSlot()
        self._replaced: SimpleQueue[BagFrame] = SimpleQueue()
        self._closing = threading.Event()
        self.late_ns = self.held_up_ns = self.skipped_ns = 0

    def run(self, frames: Iterable[BagFrame]) -> Iterator[Outcome]:
        """Play the frames.

        Yields:
            What became of each, soon after it is known.
        """
        yield from ReadAhead(self._outcomes(frames), MASKS_AHEAD, self._stop, self._wait)

    def _wait(self, waited_ns: int) -> None:
        self.held_up_ns += waited_ns

    def _outcomes(self, frames: Iterable[BagFrame]) -> Iterator[Outcome]:
        before_ns: int | None = None
        source = ReadAhead(frames, READ_AHEAD, self._stop)
        works = [partial(self._segment, segmenter) for segmenter in self._segmenters]
        lanes = OrderedLanes(iter(self._slot), works, "segmentation")
        with ThreadPoolExecutor(1, "playing") as pool:
            playing = pool.submit(self._play, source)
            try:
                for due_ns, outcome in lanes:
                    if isinstance(outcome, Segmented):
                        # Where a node would publish it: after the mask before it.
                        now_ns = time.perf_counter_ns()
                        age_ns = None if before_ns is None else now_ns - before_ns
                        outcome, before_ns = (
                            replace(outcome, latency_ns=now_ns - due_ns, age_ns=age_ns),
                            due_ns,
                        )
                    yield outcome
                    # Those came while this frame was at work.
                    yield from self._dropped()
                self.late_ns = playing.result()
                yield from self._dropped()
            finally:
                # The player ends, and the slot with it, and the lanes with that.
                self._closing.set()
                source.close()
                lanes.close()

    def _segment(self, segmenter: Segmenter, due: _Due) -> tuple[int, Outcome]:
        decoded = decode(due.source, self._levels)
        return due.due_ns, segment(self._model, segmenter, decoded, confidence=False)

    def _dropped(self) -> Iterator[Outcome]:
        while not self._replaced.empty():
            yield Dropped(self._model, self._replaced.get(), "replaced")

    def _play(self, frames: Iterable[BagFrame]) -> int:
        """Put each frame into the slot when it is due; returns by how much one was late at worst [ns]."""
        begin_ns = first_ns = None
        last_ns: int | None = None
        late_ns = gap_ns = 0
        try:
            for source in frames:
                recorded_ns = source.message.recorded_ns
                if begin_ns is None or first_ns is None:
                    begin_ns, first_ns = time.perf_counter_ns(), recorded_ns
                due_ns = begin_ns + round((recorded_ns - first_ns) / self._rate)
                if last_ns is not None:
                    # A recorder that was paused, or a clock that was set: hours without anything to do.
                    excess_ns = max(due_ns - last_ns - round(PAUSE_S * 1e9), 0)
                    self.skipped_ns += excess_ns
                    # A clock that was set back: the frame comes when the next one would have.
                    if last_ns - due_ns > gap_ns:
                        excess_ns = due_ns - last_ns - gap_ns
                    begin_ns, due_ns = begin_ns - excess_ns, due_ns - excess_ns
                    gap_ns = max(due_ns - last_ns, 0)
                last_ns = due_ns
                if not self._is_due(due_ns):
                    break
                late_ns = max(late_ns, time.perf_counter_ns() - due_ns)
                replaced = self._slot.put(_Due(due_ns, source))
                if replaced is not None:
                    self._replaced.put(replaced.source)
        finally:
            self._slot.finish()
        return late_ns

    def _is_due(self, due_ns: int) -> bool:
        """Wait for a moment; false where the replay ends before."""
        while not (self._stop.is_set() or self._closing.is_set()):
            left_s = (due_ns - time.perf_counter_ns()) / 1e9
            if left_s <= 0:
                return True
            self._closing.wait(min(left_s, POLL_S))
        return False
