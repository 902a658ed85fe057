"""What `rt_seg tune` does inside the engines: kernels, threads, instruction sets and concurrent batches."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rt_segmentation import cpu
from rt_segmentation.benchmark.search import Search
from rt_segmentation.benchmark.steps import kernel_families
from rt_segmentation.benchmark.variants import Bench
from rt_segmentation.commands.options import check_number, say
from rt_segmentation.commands.progress import TimeBar
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.tuned import NOT_CONFIRMED, Setting, Tuned, recall, remember
from rt_segmentation.provenance import cores

if TYPE_CHECKING:
    from rt_segmentation.inference.tuning import Timing
    from rt_segmentation.models import ModelManifest

BUDGET_S = 120.0
THOROUGH_S = 600.0

PROMISING = 1.6
"""Engines that take so many times the fastest one's time are looked into: kernels gained less than that."""

SEARCHED = ("openvino", "onnxruntime", "torch")
"""Engines that have something to set."""

BATCH_SHARE = 0.1
"""Of the time, for each size of batches."""

LEAST_S = 2.0
"""A shorter budget starts no process."""


def budget_s(arguments: argparse.Namespace) -> float:
    """The time for each size [s].

    Raises:
        OptionError: it is no number of seconds.
    """
    if arguments.budget is None:
        return THOROUGH_S if arguments.thorough else BUDGET_S
    check_number("budget", arguments.budget, "seconds", 120)
    return float(arguments.budget)


def tune_inside(
    manifest: ModelManifest,
    batches: Sequence[int],
    height: int,
    width: int,
    timings: Sequence[Timing],
    seconds: float,
    afresh: bool = False,
) -> Tuned | None:
    """Look for how the fastest engines are best set, and remember it; an interrupted search changes nothing.

    Args:
        manifest: the model.
        batches: of several frames, for which what was found for one is compared with the engine's own choice.
        height: of the frames [px].
        width: of the frames [px].
        timings: of the engines that passed the gate.
        seconds: at most.
        afresh: try all again, as if nothing had been found here earlier.

    Returns:
        What was found for one frame; None where there was no time to find anything.
    """
    ordered = sorted(timings, key=lambda timing: timing.median_ms)
    limit = ordered[0].median_ms * PROMISING
    engines = [(t.engine, t.precision) for t in ordered if t.median_ms <= limit and t.engine in SEARCHED]
    if seconds < LEAST_S or not engines:
        return None
    started = time.monotonic()
    deadline = started + seconds
    bar = TimeBar(seconds)

    earlier = {batch: recall(manifest, batch, height, width).continued() for batch in (1, *batches)}
    if afresh:
        # What is known of engines that are not measured now stays.
        measured = {f"{t.engine} {t.precision}" for t in timings}
        earlier = {batch: one.of(one.names - measured) for batch, one in earlier.items()}

    def search(batch: int, until: float, work: Callable[[Search], Tuned]) -> Tuned:
        began = time.monotonic()
        bench = Bench(str(manifest.path), batch, height, width, until)
        try:
            families = kernel_families(cpu.arithmetic())
            found = work(Search(bench, cores(), cpu.instruction_sets(), bar, earlier[batch], families))
        finally:
            bench.close()
        if not found.latency:
            return found
        taken = replace(found, seconds=round(time.monotonic() - began, 1))
        return remember(manifest, batch, height, width, taken)

    try:
        # What is set inside the others is of one frame alone.
        with_kernels = any(engine == "openvino" for engine, _ in engines)
        until = deadline - (BATCH_SHARE * seconds * len(batches) if with_kernels else 0.0)
        found = search(1, until, lambda one: one.run(engines))
        here = found.of([" ".join(engine) for engine in engines])
        best = here.latency[0] if here.latency else None
        # Threads and pinning were measured for one frame; kernels are those of the layers.
        if best is not None and (best.options.kernels or best.options.isa):
            # What was compared for the same settings earlier is still true.
            new = [batch for batch in batches if not _compared(earlier[1], earlier[batch], best)]
            for number, batch in enumerate(new):
                bar(f"batches of {batch}")
                share_s = (deadline - time.monotonic()) / (len(new) - number)
                search(batch, time.monotonic() + share_s, lambda one: one.carry_over(best))
    finally:
        bar.close()
    if not here.latency:
        say("inside the engines nothing was found in time, and nothing is changed; give a longer --budget")
        return None
    return here


def _compared(earlier: Tuned, of_batch: Tuned, best: Setting) -> bool:
    """Whether what is best for one frame was so earlier, and was compared for a batch then."""
    name = best.engine, best.precision
    same = any((one.engine, one.precision, one.options) == (*name, best.options) for one in earlier.latency)
    return same and any((one.engine, one.precision) == name for one in of_batch.latency)


def with_found(timing: Timing, tuned: Tuned, timed: Options) -> Timing:
    """An engine's time with what was found for it, from its time as it was set when it was `timed`."""
    for one in tuned.latency:
        if (one.engine, one.precision) != (timing.engine, timing.precision) or one.options == timed:
            continue
        # Set otherwise, as an earlier search found it, it says nothing of the engine's own choice.
        ms = timing.median_ms * one.ms / one.plain_ms if timed == PLAIN else one.ms
        return replace(timing, median_ms=round(ms, 3))
    return timing


def describe(tuned: Tuned) -> Iterator[str]:
    """What was found, in lines."""
    for title, found in (
        ("lowest latency", tuned.latency[:1]),
        ("highest rate", tuned.throughput[:1]),
    ):
        for one in found:
            several = f", {one.parallel} frames concurrently" if one.parallel > 1 else ""
            sure = f", {one.confidence:.0%} sure" if one.confidence > 0.5 else ""
            yield (
                f"{title}: {one.engine} {one.precision}{several}, {one.options.describe()}:"
                f" {one.ms:.1f} ms a frame for {one.plain_ms:.1f}{sure}"
            )
    if tuned.tried:
        kept = sum(trial.kept for trial in tuned.tried) or "none"
        yield f"{len(tuned.tried)} things were tried in {tuned.seconds:.0f} s, {kept} kept"
        lost = sum(trial.note == NOT_CONFIRMED for trial in tuned.tried)
        if lost:
            yield f"{lost} were faster as a step, but not when they were measured once more; --json tells"
