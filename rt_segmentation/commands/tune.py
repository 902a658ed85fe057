"""`rt_seg tune`: times all engines here, so that `auto` takes the fastest, and sets it as it is fastest."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rt_segmentation import cpu
from rt_segmentation.commands.options import (
    check_cache,
    check_number,
    engines_here,
    parse_size,
    require_kept,
    say,
)
from rt_segmentation.provenance import cores, machine

if TYPE_CHECKING:
    from rt_segmentation.inference.tuning import Record, Throughput, Timing

BUILDING_S = 300.0
"""Time for building all engines of a size; what is not ready then is left out."""

AGAIN_SHARE = 0.3
"""Of the time for timing, where an earlier run of this machine and these libraries is only confirmed."""

BUSY_SHARE = 0.1
"""Of the cores; from what others take on, the user is told."""

AT_ONCE = (2, 4)
"""Numbers of frames that are timed beside one: side by side where there are so many cores, and as a batch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("model", help="a model, or the path of a manifest")
    parser.add_argument(
        "--size", nargs="+", default=[], help="of the input, WIDTHxHEIGHT [px] (default: the manifest's)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="time for timing each size [s]; half of it again for concurrent frames (default 30);"
        f" to build the engines may take {BUILDING_S:.0f} s more",
    )
    inside = parser.add_mutually_exclusive_group()
    inside.add_argument(
        "--budget",
        type=float,
        help="time for each size to try kernels and threads inside the engines [s]; 0: none (default 120)",
    )
    inside.add_argument("--thorough", action="store_true", help="a budget of 600 s")
    parser.add_argument(
        "--engine",
        nargs="+",
        default=[],
        metavar="ENGINE",
        help="time and search these alone; what is known of others stays (default: all that work here)",
    )
    parser.add_argument(
        "--afresh",
        action="store_true",
        help="measure all again, also what an earlier run here measured and found slower",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(arguments: argparse.Namespace) -> None:
    """Time all engines and precisions that pass the gate in interleaved rounds, and remember the order.

    Then look for what makes the fastest of them faster inside, within a budget, and time the fastest at
    several frames: concurrently and as batches.

    Raises:
        EngineError: an engine is none, none works here, or what is measured cannot be kept.
        ModelError: there is no such model.
        OptionError: a time or a size is none.
    """
    from rt_segmentation.benchmark.engines import Group, time_group, time_throughputs
    from rt_segmentation.commands.tune_inside import budget_s, describe, tune_inside, with_found
    from rt_segmentation.inference.engines import EngineError, installed
    from rt_segmentation.inference.engines.choosing import works_concurrently
    from rt_segmentation.inference.tuned import Tuned, options_for
    from rt_segmentation.inference.tuning import Throughput, Timing, recall, remember
    from rt_segmentation.models import find_model

    seconds = budget_s(arguments)
    check_number("seconds", arguments.seconds, "seconds", 30, above_0=True)
    offered = engines_here(arguments.engine, [])
    manifest = find_model(arguments.model)
    sizes = [parse_size(text) for text in arguments.size] or [(manifest.width, manifest.height)]
    check_cache("what is measured")
    found = []
    whole_s = BUILDING_S + 1.5 * arguments.seconds + seconds
    say(f"at most {whole_s:.0f} s for each size: {BUILDING_S:.0f} of it for building engines, once")
    for width, height in sizes:
        others = cpu.Others()
        end = time.monotonic() + whole_s
        known = recall(manifest, height, width)
        candidates = offered if arguments.afresh else _promising(offered, known)
        timed_s = arguments.seconds * (AGAIN_SHARE if known.timings and not arguments.afresh else 1.0)
        # Progress goes by the name that the user knows, as errors do.
        group = Group(manifest.name, str(manifest.path), width, height, candidates)
        rows = time_group(group, timed_s, say, limit_s=BUILDING_S + timed_s)
        timings = [Timing(r.engine, r.precision, r.median_ms) for r in rows if r.median_ms is not None]
        if not timings:
            raise EngineError("no engine works here: " + "; ".join(row.problem for row in rows))
        set_so = [options_for(manifest, t.engine, t.precision, 1, height, width, 1) for t in timings]
        tuned = tune_inside(manifest, AT_ONCE, height, width, timings, seconds, arguments.afresh) or Tuned()
        # Before anything more was found: what the machine does today with what was known.
        today = _slower_today(known, timings)
        timings = [with_found(timing, tuned, options) for timing, options in zip(timings, set_so)]
        best = min((row for row in rows if row.median_ms is not None), key=lambda row: row.median_ms or 0)
        settings = [(1, 1)]
        if works_concurrently(best.engine):
            settings += [(number, 1) for number in AT_ONCE if number <= cores()]
        settings += [(1, number) for number in AT_ONCE]
        # Engines are built for so many frames once more; what was not needed before is left for it.
        several = time_throughputs(best, settings, timed_s / 2, say, end - time.monotonic())
        throughputs = [
            Throughput(row.engine, row.precision, parallel, batch, row.fps)
            for row, (parallel, batch) in zip(several, settings)
            if row.fps is not None
        ]
        if candidates != installed():
            timings, throughputs = _with_known(known, candidates, today, timings, throughputs)
        record = remember(manifest, height, width, timings, throughputs)
        others_share = round(others.share(), 2)
        refused = {f"{row.engine} {row.precision}": row.problem for row in rows if row.problem}
        found.append(
            {
                **{"model": manifest.name, "width": width, "height": height, **asdict(record)},
                **{"refused": refused, "inside": tuned.to_json(), "others_share": others_share},
            }
        )
        if not arguments.json:
            print(f"{manifest.name} {width}x{height} on {machine()}")
            for timing in record.timings:
                print(f"  {timing.engine:<12} {timing.precision:<6} {timing.median_ms:8.1f} ms")
            for t in record.throughputs:
                print(f"  {t.engine:<12} {t.precision:<6} {t.frames_hz:8.1f} Hz, {t.words}")
            for line in describe(tuned):
                print(f"  {line}")
            for name, problem in refused.items():
                print(f"  {name:<19} refused: {problem}")
        if others_share >= BUSY_SHARE:
            say(
                f"meanwhile others took {others_share:.0%} of the processor cores: what was found is for a"
                " computer that is as busy; where it is not, tune again when it is idle"
            )
    if arguments.json:
        print(json.dumps(found, indent=2))
    require_kept("what was measured")


def _promising(offered: Sequence[tuple[str, str]], known: Record) -> list[tuple[str, str]]:
    """Those that were not measured here yet, and of the others those that are not far behind."""
    from rt_segmentation.commands.tune_inside import PROMISING

    times = {
        (t.engine, t.precision): t.median_ms for t in known.timings if (t.engine, t.precision) in offered
    }
    limit = PROMISING * min(times.values(), default=0.0)
    return [pair for pair in offered if times.get(pair, 0.0) <= limit]


def _slower_today(known: Record, timings: Sequence[Timing]) -> float:
    """By how much times are longer than those known of the same engines: the median ratio, 1 without any."""
    earlier = {(t.engine, t.precision): t.median_ms for t in known.timings}
    ratios = [t.median_ms / earlier[pair] for t in timings if (pair := (t.engine, t.precision)) in earlier]
    return statistics.median(ratios) if ratios else 1.0


def _with_known(
    known: Record,
    candidates: Sequence[tuple[str, str]],
    today: float,
    timings: Sequence[Timing],
    throughputs: Sequence[Throughput],
) -> tuple[list[Timing], list[Throughput]]:
    """What was measured now, and of other engines what was measured earlier, by the machine's speed today.

    Args:
        known: what was measured earlier.
        candidates: engines with their precisions that were measured now.
        today: by how much times are longer now, and rates lower.
        timings: measured now.
        throughputs: measured now.
    """
    others = [
        replace(t, median_ms=round(t.median_ms * today, 3))
        for t in known.timings
        if (t.engine, t.precision) not in candidates
    ]
    of_others = [
        replace(t, frames_hz=round(t.frames_hz / today, 3))
        for t in known.throughputs
        if (t.engine, t.precision) not in {(new.engine, new.precision) for new in throughputs}
    ]
    return [*timings, *others], [*throughputs, *of_others]
