"""Every frame of a bag, as fast as it goes: reading in one thread, networks in others."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from rt_segmentation.bags.frames import to_frame
from rt_segmentation.evaluation.bag.frames import BagFrame
from rt_segmentation.evaluation.bag.outcome import Dropped, Outcome, Segmented
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.levels import Levels
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.provenance import cores
from rt_segmentation.runtime.lanes import OrderedLanes
from rt_segmentation.runtime.read_ahead import ReadAhead

READ_AHEAD = 4
MASKS_AHEAD = 2
MAX_AT_ONCE = 4
"""More streams of an engine take memory and give little."""
WARM_UP_FRAMES = 2
TIMED_FRAMES = 10
TIMED_S = 1.0


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded frame, or why there is none, and how long that took [ns]."""

    source: BagFrame
    frame: Frame | ImageError
    duration_ns: int


def decode(source: BagFrame, levels: Levels) -> Decoded:
    """Decode a frame by the node's codec; samples of 16 bits become 8 as `levels` says."""
    started = time.perf_counter_ns()
    try:
        frame: Frame | ImageError = levels(to_frame(source.message))
    except ImageError as error:
        frame = error
    return Decoded(source, frame, time.perf_counter_ns() - started)


def segment(model: int, segmenter: Segmenter, decoded: Decoded, confidence: bool) -> Outcome:
    """Segment a decoded frame; an engine that fails on it costs this frame alone, as in the node."""
    if isinstance(decoded.frame, ImageError):
        return Dropped(model, decoded.source, decoded.frame.reason, str(decoded.frame))
    started = time.perf_counter_ns()
    try:
        (result,) = segmenter.segment([decoded.frame], confidence)
    except ImageError as error:
        return Dropped(model, decoded.source, error.reason, str(error))
    except Exception as error:
        return Dropped(model, decoded.source, "failed", f"{type(error).__name__}: {error}")
    latency_ns = decoded.duration_ns + time.perf_counter_ns() - started
    return Segmented(model, decoded.source, decoded.frame, result, latency_ns)


def frames_at_once() -> int:
    """How many frames are segmented concurrently: each has a core, so none waits for another's threads."""
    return min(cores(), MAX_AT_ONCE)


def run_all(
    frames: Iterable[BagFrame],
    lanes: Sequence[Sequence[Segmenter]],
    stop: threading.Event,
    levels: Levels,
) -> Iterator[Outcome]:
    """Segment every frame by every model, decoding it once.

    Args:
        frames: of a bag.
        lanes: the segmenters of all models, once for each frame segmented concurrently.
        stop: ends it early.
        levels: of the bag's 16-bit images.

    Yields:
        What became of each frame, for each model, in the bag's order.
    """

    def work(lane: Sequence[Segmenter], source: BagFrame) -> list[Outcome]:
        decoded = decode(source, levels)
        return [segment(model, segmenter, decoded, True) for model, segmenter in enumerate(lane)]

    sources = ReadAhead(frames, READ_AHEAD, stop)
    works = [partial(work, lane) for lane in lanes]
    results = ReadAhead(OrderedLanes(iter(sources), works, "segmentation"), MASKS_AHEAD, stop)
    try:
        for outcomes in results:
            yield from outcomes
    finally:
        # The lanes end with what they take.
        sources.close()
        results.close()


def engine_rate(segmenters: Sequence[Segmenter], frame: Frame, confidence: bool) -> float:
    """What an engine does alone, on one frame again and again [1/s]; compiles it first.

    Args:
        segmenters: that share the engine, one for each frame that it works on concurrently.
        frame: any of the size to measure.
        confidence: whether to compute it.
    """
    for _ in range(WARM_UP_FRAMES):
        segmenters[0].segment([frame], confidence)

    def rate(segmenter: Segmenter) -> float:
        durations_ms: list[float] = []
        started = time.perf_counter()
        while not durations_ms or (
            len(durations_ms) < TIMED_FRAMES and time.perf_counter() - started < TIMED_S
        ):
            (result,) = segmenter.segment([frame], confidence)
            durations_ms.append(result.inference_ms)
        return 1e3 / statistics.median(durations_ms)

    with ThreadPoolExecutor(len(segmenters)) as pool:
        return sum(pool.map(rate, segmenters))
