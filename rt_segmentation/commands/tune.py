"""`rt_seg tune`: times all engines here, so that `auto` takes the fastest, and sets it as it is fastest."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict

from rt_segmentation.commands.options import OptionError, parse_size, require_kept, say
from rt_segmentation.provenance import cores, machine

BUILDING_S = 300.0
"""Time for building all engines of a size; what is not ready then is left out."""

AT_ONCE = (2, 4)
"""Frames at once that are timed beside one: side by side where there are so many cores, and as a batch."""


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
        help="time for timing each size [s]; half of it again for frames at once (default 30);"
        f" to build the engines may take {BUILDING_S:.0f} s more",
    )
    parser.add_argument(
        "--budget",
        type=float,
        help="time for each size to try kernels and threads inside the engines [s]; 0: none (default 120)",
    )
    parser.add_argument("--thorough", action="store_true", help="a budget of 600 s")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(arguments: argparse.Namespace) -> None:
    """Time all engines and precisions that pass the gate in interleaved rounds, and remember the order.

    Then look for what makes the fastest of them faster inside, within a budget, and time the fastest at
    several frames at once: side by side and as batches.

    Raises:
        EngineError: none works here, or what was measured could not be kept.
        ModelError: there is no such model.
        OptionError: a time or a size is none.
    """
    from rt_segmentation.benchmark.engines import Group, time_group, time_throughputs
    from rt_segmentation.commands.tune_inside import budget_s, describe, tune_inside, with_found
    from rt_segmentation.inference.engines import EngineError, installed
    from rt_segmentation.inference.engines.choosing import works_concurrently
    from rt_segmentation.inference.tuned import Tuned
    from rt_segmentation.inference.tuning import Throughput, Timing, remember
    from rt_segmentation.models import find_model

    seconds = budget_s(arguments)
    if not 0 < arguments.seconds < math.inf:
        raise OptionError(f"--seconds {arguments.seconds:g} is not a number of seconds above 0, as 30")
    manifest = find_model(arguments.model)
    sizes = [parse_size(text) for text in arguments.size] or [(manifest.width, manifest.height)]
    found = []
    whole_s = BUILDING_S + 1.5 * arguments.seconds + seconds
    say(f"at most {whole_s:.0f} s for each size: {BUILDING_S:.0f} of it for building engines, once")
    for width, height in sizes:
        end = time.monotonic() + whole_s
        group = Group(manifest.architecture, str(manifest.path), width, height, installed())
        rows = time_group(group, arguments.seconds, say, limit_s=BUILDING_S + arguments.seconds)
        timings = [Timing(r.engine, r.precision, r.median_ms) for r in rows if r.median_ms is not None]
        if not timings:
            raise EngineError("no engine works here: " + "; ".join(row.problem for row in rows))
        tuned = tune_inside(manifest, AT_ONCE, height, width, timings, seconds) or Tuned()
        timings = [with_found(timing, tuned) for timing in timings]
        best = min((row for row in rows if row.median_ms is not None), key=lambda row: row.median_ms or 0)
        settings = [(1, 1)]
        if works_concurrently(best.engine):
            settings += [(number, 1) for number in AT_ONCE if number <= cores()]
        settings += [(1, number) for number in AT_ONCE]
        # Engines are built for so many frames once more; what was not needed before is left for it.
        several = time_throughputs(best, settings, arguments.seconds / 2, say, end - time.monotonic())
        throughputs = [
            Throughput(row.engine, row.precision, parallel, batch, row.fps)
            for row, (parallel, batch) in zip(several, settings)
            if row.fps is not None
        ]
        record = remember(manifest, height, width, timings, throughputs)
        refused = {f"{row.engine} {row.precision}": row.problem for row in rows if row.problem}
        found.append(
            {
                **{"model": manifest.name, "width": width, "height": height, **asdict(record)},
                **{"refused": refused, "inside": tuned.to_json()},
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
    if arguments.json:
        print(json.dumps(found, indent=2))
    require_kept("what was measured")
