"""Every frame of a bag, as fast as it goes: reading and decoding in one thread, networks in another."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rt_segmentation.bags.frames import to_frame
from rt_segmentation.evaluation.bag.frames import BagFrame, ahead
from rt_segmentation.evaluation.bag.outcome import Dropped, Outcome, Segmented
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmenter

DECODED_AHEAD = 4
MASKS_AHEAD = 2
WARM_UP_FRAMES = 2
TIMED_FRAMES = 10
TIMED_S = 1.0


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded frame, or why there is none, and how long that took [ns]."""

    source: BagFrame
    frame: Frame | ImageError
    duration_ns: int


def decode(source: BagFrame) -> Decoded:
    """Decode a frame by the node's codec."""
    started = time.perf_counter_ns()
    try:
        frame: Frame | ImageError = to_frame(source.message)
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
    except Exception as error:
        return Dropped(model, decoded.source, "failed", f"{type(error).__name__}: {error}")
    latency_ns = decoded.duration_ns + time.perf_counter_ns() - started
    return Segmented(model, decoded.source, decoded.frame, result, latency_ns)


def run_all(
    frames: Iterable[BagFrame], segmenters: Sequence[Segmenter], stop: threading.Event
) -> Iterator[Outcome]:
    """Segment every frame by every model, decoding it once.

    Args:
        frames: of a bag.
        segmenters: of the models.
        stop: ends it early.

    Yields:
        What became of each frame, for each model, in the bag's order.
    """
    decoded = ahead((decode(frame) for frame in frames), DECODED_AHEAD, stop)
    outcomes = (
        segment(model, segmenter, one, confidence=True)
        for one in decoded
        for model, segmenter in enumerate(segmenters)
    )
    yield from ahead(outcomes, MASKS_AHEAD, stop)


def engine_rate(segmenter: Segmenter, frame: Frame, confidence: bool) -> float:
    """What the engine does alone, on one frame again and again [1/s]; compiles it first."""
    durations_ms: list[float] = []
    for _ in range(WARM_UP_FRAMES):
        segmenter.segment([frame], confidence)
    started = time.perf_counter()
    while len(durations_ms) < TIMED_FRAMES and (not durations_ms or time.perf_counter() - started < TIMED_S):
        (result,) = segmenter.segment([frame], confidence)
        durations_ms.append(result.inference_ms)
    return 1e3 / statistics.median(durations_ms)
