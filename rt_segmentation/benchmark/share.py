"""What of its engine's rate a node passes on: both in turns, the node with more frames than it can take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from rt_segmentation.benchmark.engines import ROUND_S, WARM_UP_FRAMES, Candidate, Row
from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.node import SEGMENTATION, Bench, Run
from rt_segmentation.ros.processes import Process

ROUNDS = 3
TOO_MUCH = 1.2
"""So many times the engine's rate is sent: a frame always waits. What is replaced costs the same cores."""


@dataclass(frozen=True)
class Share:
    """Rates in Hz; medians of the rounds, and so are the ratios, each of one round's rates.

    Attributes:
        run: the node's, of median rate.
        engine_hz, engine_ratio: the engine by itself at one frame at a time, and the node's rate by it.
        engine_parallel_hz, engine_parallel_ratio: at as many as the node has concurrently, or at the better
            of one and two where it decides that; None where that is one.
        engine_beside_hz, engine_beside_ratio: the same, while the same camera sends to a listener that does
            nothing with the images.
    """

    run: Run
    engine_hz: float
    engine_ratio: float
    engine_parallel_hz: float | None
    engine_parallel_ratio: float | None
    engine_beside_hz: float
    engine_beside_ratio: float


def measure(
    bench: Bench, node: Process, engine: Row, parallel: int, camera: tuple[int, int], seconds: float
) -> Share:
    """Measure a node that gives masks already.

    Args:
        bench: receives.
        node: the process.
        engine: what runs the network, with the network's size, to be timed by itself.
        parallel: frames that the node has concurrently, 0 where it decides between one and two.
        camera: (width, height) of the frames [px].
        seconds: that each round of the node takes.

    Raises:
        BenchmarkError: the node ended, gave no masks, or the engine cannot be timed.
    """
    runs: list[Run] = []
    # For each round the engine's rates: at one frame, at as many as the node has, and these beside a camera.
    rates: list[tuple[float, float, float]] = []
    counts = sorted({1, parallel or 2})
    with by_itself(engine, counts) as alone:
        as_node = alone if parallel == 0 else alone[-1:]
        best_hz = best_rate(alone)
        for _ in range(ROUNDS):
            alone_hz = [rate(each) for each in alone]
            sent_hz = TOO_MUCH * max(best_hz, *alone_hz)
            runs.append(bench.play(SEGMENTATION, node, camera, sent_hz, seconds))
            # As many frames as the node, with what it cannot take, has been sent.
            with bench.sending(camera, sent_hz, seconds):
                beside_hz = best_rate(as_node, seconds / 2 / len(as_node))
            rates.append((alone_hz[0], max(alone_hz[-len(as_node) :]), beside_hz))
    if not all(run.masks for run in runs):
        raise BenchmarkError("the node gave no masks of a round")
    engine_hz, parallel_hz, beside_hz = (round(median(each), 2) for each in zip(*rates))
    ratios = [tuple(run.output_hz / hz for hz in each) for run, each in zip(runs, rates)]
    ratio, parallel_ratio, beside_ratio = (round(median(each), 3) for each in zip(*ratios))
    several = len(counts) > 1
    return Share(
        sorted(runs, key=lambda run: run.output_hz)[len(runs) // 2],
        engine_hz,
        ratio,
        parallel_hz if several else None,
        parallel_ratio if several else None,
        beside_hz,
        beside_ratio,
    )


@contextlib.contextmanager
def by_itself(engine: Row, counts: Sequence[int]) -> Iterator[list[Candidate]]:
    """The engine in processes of its own, at so many concurrent frames each."""
    made = [Candidate(replace(engine), count) for count in counts]
    try:
        for each in made:
            each.run(WARM_UP_FRAMES)
        yield made
    finally:
        for each in made:
            each.close()


def best_rate(candidates: Sequence[Candidate], seconds: float = ROUND_S) -> float:
    """The highest of their rates, each timed for so long; see `rate` for what is raised."""
    return max(rate(each, seconds) for each in candidates)


def rate(candidate: Candidate, seconds: float = ROUND_S) -> float:
    """Its frames per second, after so many that are not counted.

    Raises:
        BenchmarkError: it failed.
    """
    durations_ms = candidate.run(WARM_UP_FRAMES)
    if durations_ms:
        durations_ms = candidate.run(max(5, round(seconds * 1e3 / mean(durations_ms))))
    if not durations_ms:
        raise BenchmarkError(f"the engine by itself: {candidate.row.problem}")
    return 1e3 / mean(durations_ms)
