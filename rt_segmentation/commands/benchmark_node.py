"""`rt_seg benchmark node`: the whole pipeline over DDS, beside its engine alone."""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.commands import benchmark_cameras
from rt_segmentation.commands.options import add_engine, add_models, add_out, add_sizes, parse_size, say
from rt_segmentation.files import write_atomically
from rt_segmentation.provenance import environment

if TYPE_CHECKING:
    from rt_segmentation.benchmark.node import Bench, Run
    from rt_segmentation.models import ModelManifest

FIXED_RATES_HZ = (10.0, 30.0, 60.0)
# Of a search and the fixed rates, in all about.
PLAYS = 10
# Each time a player is started, finds its subscriber, and ends.
OVERHEAD_S = 4.0
SHORTEST_PLAY_S = 3.0
ENGINE_S = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(parser)
    add_sizes(parser)
    add_engine(parser)
    parser.add_argument(
        "--parallel",
        type=int,
        nargs="+",
        default=[1],
        help="the node's parallel_frames, one after the other (default 1; with --cameras the first)",
    )
    parser.add_argument(
        "--cameras",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="so many cameras at once with the first model and size: one node beside a node for each",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of timing in all (default 10)")
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Measure the node with each model; writes node.json and node.md, each row when it is there.

    A setting that fails is a row that says so, and the others are measured all the same.

    Raises:
        BenchmarkError: there is no ROS 2 here, or no setting could be measured.
        ModelError: there is no such model.
        OptionError: a size is not WIDTHxHEIGHT.
    """
    from rt_segmentation.benchmark.report import command_line, write_json
    from rt_segmentation.models import find_model

    sizes = [parse_size(text) for text in arguments.sizes]
    if importlib.util.find_spec("rclpy") is None:
        raise BenchmarkError(
            "the node needs ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    if arguments.cameras:
        benchmark_cameras.main(arguments)
        return
    from rt_segmentation.benchmark.node import Bench

    plays = len(arguments.models) * len(arguments.parallel) * PLAYS * len(sizes)
    seconds = max(SHORTEST_PLAY_S, arguments.minutes * 60 / plays - OVERHEAD_S)
    settings: list[dict[str, Any]] = [
        {"engine": arguments.engine, "precision": arguments.precision, "parallel_frames": parallel}
        for parallel in arguments.parallel
    ]
    manifests = {model: find_model(model) for model in arguments.models}
    rows: list[dict[str, Any]] = []
    content = {"command": command_line(), **environment(), "rows": rows}
    with Bench(arguments.out / "logs", say) as bench:
        for model, manifest in manifests.items():
            for chosen in settings:
                measured = [
                    (
                        _described(manifest, model, chosen, size),
                        _alone(bench, manifest, model, chosen, size, seconds),
                    )
                    for size in sizes
                ]
                for described, found in measured:
                    for row in with_failure(described, found):
                        rows.append(row)
                        write_json(arguments.out, "node", content)
                        write_atomically(arguments.out / "node.md", to_markdown(content).encode())
    print(to_markdown(content))
    if all("problem" in row for row in rows):
        raise BenchmarkError(f"no setting could be measured; {rows[0]['problem']}")


def with_failure(described: dict[str, Any], rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of a setting; where it fails, those before and one more that says why."""
    try:
        yield from rows
    # A node that ended or gave no masks, an engine that fails by itself, a process that cannot be started.
    except (RuntimeError, OSError) as error:
        say(f"{described['model']}, {described['parallel_frames']} at once: failed: {error}")
        yield {**described, "run": "failed", "problem": " ".join(str(error).split())}


def _described(
    manifest: ModelManifest, model: str, chosen: dict[str, Any], size: tuple[int, int]
) -> dict[str, Any]:
    """What a row is of."""
    from rt_segmentation.imaging.placement import width_for

    return {
        "node": "rt_segmentation",
        "model": model,
        "parallel_frames": chosen["parallel_frames"],
        "camera": size,
        "network": manifest.fixed_size or (width_for(size, manifest.height), manifest.height),
    }


def _alone(
    bench: Bench,
    manifest: ModelManifest,
    model: str,
    chosen: dict[str, Any],
    size: tuple[int, int],
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """The highest rate and the fixed rates.

    The engine is timed by itself before and after the search: at one frame at a time, and at as many as the
    node has at once.
    """
    from rt_segmentation.benchmark.node import SEGMENTATION, highest_rate

    described = _described(manifest, model, chosen, size)
    network = described["network"]
    with bench.start(SEGMENTATION, {"model": model, **chosen}) as node:

        def play(rate_hz: float) -> Run:
            return bench.play(SEGMENTATION, node, size, rate_hz, seconds)

        latency_ms = bench.warm_up(SEGMENTATION, node, size)
        prefixes = {1: "engine"}
        prefixes.setdefault(chosen["parallel_frames"], "engine_parallel")
        before = {n: _engine_hz(manifest, model, chosen, network, n) for n in prefixes}
        highest = highest_rate(play, 1e3 / latency_ms)
        ratios = {}
        for n, prefix in prefixes.items():
            mean_hz = (before[n] + _engine_hz(manifest, model, chosen, network, n)) / 2
            ratios[f"{prefix}_hz"] = round(mean_hz, 2)
            ratios[f"{prefix}_ratio"] = round(highest.output_hz / mean_hz, 3)
        yield row_of(described, "highest", highest, ratios)
        for rate in FIXED_RATES_HZ:
            yield row_of(described, f"{rate:g} Hz", play(rate))


def _engine_hz(
    manifest: ModelManifest, model: str, chosen: dict[str, Any], network: tuple[int, int], parallel: int
) -> float:
    from rt_segmentation.benchmark.engines import Group, time_group

    candidate = ((chosen["engine"], chosen["precision"]),)
    (row,) = time_group(Group(manifest.architecture, model, *network, candidate, parallel), ENGINE_S)
    if row.fps is None:
        raise BenchmarkError(f"the engine by itself: {row.problem}")
    return row.fps


def row_of(
    described: dict[str, Any], name: str, run: Run, ratios: dict[str, float] | None = None
) -> dict[str, Any]:
    """A row of the table, as JSON's types.

    Args:
        described: what it is of.
        name: of the run.
        run: what was measured.
        ratios: more of it.
    """
    measured = {
        # JSON has no number for the latency of masks that never came.
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in asdict(run).items()
    }
    return {**described, "run": name, **measured, **(ratios or {})}


def to_markdown(content: dict[str, Any]) -> str:
    """The runs as a table, the ratios as sentences."""
    from rt_segmentation.benchmark.report import page_head

    heads = ("node", "model", "at once", "camera", "network", "run", "sent [Hz]", "masks [Hz]", "missing")
    units = ("min [ms]", "p50 [ms]", "p95 [ms]", "max [ms]", "CPU [%]", "memory [MB]", "cores [ns]")
    lines = [
        *page_head("The whole node over DDS", content),
        "`highest` is the highest rate found with less than 1 % of the frames missing; latency is from the"
        " frame's stamp to the mask's arrival in another process; CPU and memory are the node's process's.",
        "`at once` is the node's `parallel_frames`; `cores` is how long a byte takes from one core to the"
        " next and back, just before the run: two or three times the usual where they do not share a cache.",
        "",
        f"| {' | '.join(heads + units)} |",
        "|" + "---|" * len(heads + units),
    ]
    sentences = []
    for row in content["rows"]:
        camera, network = (f"{row[key][0]}x{row[key][1]}" for key in ("camera", "network"))
        if "problem" in row:
            cells = [row["node"], row["model"], str(row["parallel_frames"]), camera, network, row["run"]]
            empty = " |" * (len(heads + units) - len(cells) - 1)
            lines.append(f"| {' | '.join([*cells, row['problem'].replace('|', '/')])} |{empty}")
            continue
        numbers = [row[f"latency_{key}_ms"] for key in ("min", "p50", "p95", "max")]
        cells = [row["node"], row["model"], str(row["parallel_frames"]), camera, network, row["run"]]
        cells.append(f"{row['rate_hz']:.1f}")
        cells += [f"{row['output_hz']:.1f}", f"{row['drop_ratio']:.1%}"]
        cells += ["" if number is None else f"{number:.1f}" for number in numbers]
        whole = ("cpu_percent", "memory_mb", "core_round_trip_ns")
        cells += ["" if row[key] is None else f"{row[key]:.0f}" for key in whole]
        lines.append(f"| {' | '.join(cells)} |")
        subject = f"- {row['model']}, {camera}, {row['parallel_frames']} at once:"
        if "engine_ratio" in row:
            sentences.append(
                f"{subject} the node reaches {row['engine_ratio']:.2f} of the rate of its engine alone at"
                f" {network}, {row['engine_hz']:.1f} Hz"
                + (
                    f" at one frame at a time, and {row['engine_parallel_ratio']:.2f} of"
                    f" {row['engine_parallel_hz']:.1f} Hz at {row['parallel_frames']}."
                    if "engine_parallel_hz" in row
                    else "."
                )
            )
    return "\n".join([*lines, "", *sentences]) + "\n"
