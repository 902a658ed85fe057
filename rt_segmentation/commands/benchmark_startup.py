"""`rt_seg benchmark startup`: the node's first mask from a warm cache, and its memory."""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import add_benchmark, engines_here, parse_size, say
from rt_segmentation.commands.outputs import check_outputs

if TYPE_CHECKING:
    from rt_segmentation.benchmark.report import Result

ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """How a model and engine start, as written to startup.json.

    Attributes:
        network: the model's network.
        model: name or manifest.
        engine, precision: what runs it.
        width, height: of the camera's frames [px].
        first_mask_s: median, from the start of the node's process to its first mask; None with a problem.
        slowest_s: of the starts; None with a problem.
        memory_mb: median, resident; None with a problem.
        first_latency_ms: median, of the first mask, from its frame's stamp; None with a problem.
        latency_ms: median, of the masks after it; None with a problem.
        problem: why there are no numbers, or empty.
    """

    network: str
    model: str
    engine: str
    precision: str
    width: int
    height: int
    first_mask_s: float | None = None
    memory_mb: float | None = None
    slowest_s: float | None = None
    first_latency_ms: float | None = None
    latency_ms: float | None = None
    problem: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_benchmark(parser)


def main(arguments: argparse.Namespace) -> None:
    """Start the node with each model and engine; writes startup.json and startup.md.

    Raises:
        EngineError: there is no ROS 2 here, or none of the engines asked for.
        ModelError: there is no such model.
        OptionError: a size is not WIDTHxHEIGHT, or the folder cannot be written.
    """
    import statistics

    from rt_segmentation.benchmark.report import write_result
    from rt_segmentation.inference.engines import EngineUnavailable
    from rt_segmentation.models import find_model

    check_outputs(arguments, folders=("out",))
    sizes = [parse_size(text) for text in arguments.sizes]
    if importlib.util.find_spec("rclpy") is None:
        raise EngineUnavailable(
            "the node needs ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    from rt_segmentation.benchmark.startup import start_node

    pairs = engines_here(arguments.engines, arguments.precisions)
    rows: list[Row] = []
    for model in arguments.models:
        network = find_model(model).network
        for width, height in sizes:
            for engine, precision in pairs:
                parameters = {"model": model, "engine": engine, "precision": precision}
                logs = arguments.out / "logs"
                row = Row(network, model, engine, precision, width, height)
                try:
                    # The first one fills the cache.
                    runs = [start_node(parameters, (width, height), logs) for _ in range(ROUNDS + 1)][1:]
                except RuntimeError as error:
                    rows.append(replace(row, problem=str(error)))
                    say(f"{model} {engine} {precision}: {error}")
                    continue
                first_mask_s = statistics.median(run.first_mask_s for run in runs)
                memory_mb = statistics.median(run.memory_mb for run in runs)
                rows.append(
                    replace(
                        row,
                        first_mask_s=first_mask_s,
                        slowest_s=max(run.first_mask_s for run in runs),
                        memory_mb=memory_mb,
                        first_latency_ms=statistics.median(run.first_latency_ms for run in runs),
                        latency_ms=statistics.median(run.latency_ms for run in runs),
                    )
                )
                say(
                    f"{model} {engine} {precision}: first mask after {first_mask_s:.2f} s, {memory_mb:.0f} MB"
                )
    write_result(arguments.out, "startup", rows, to_markdown)


def to_markdown(result: Result[Row]) -> str:
    """The starts as a table."""
    from rt_segmentation.benchmark.report import page_head

    lines = [
        *page_head("From the node's start to its first mask", result),
        "From the start of the node's process to its first mask in another one, with a camera that publishes"
        f" already, from a warm cache; medians of {ROUNDS} starts, and the slowest. Latencies are from a"
        " frame's stamp to its mask's arrival, of the first mask and of those after it. Memory is the node's,"
        " resident.",
        "",
        "| model | engine | precision | camera | first mask [s] | slowest [s] | its latency [ms] | later [ms]"
        " | memory [MB] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        numbers = (row.first_mask_s, row.slowest_s, row.first_latency_ms, row.latency_ms, row.memory_mb)
        forms = (".2f", ".2f", ".0f", ".0f", ".0f")
        cells = ["" if number is None else format(number, form) for number, form in zip(numbers, forms)]
        measured = " | ".join([row.problem, *cells[1:]] if row.problem else cells)
        camera = f"{row.width}x{row.height}"
        lines.append(f"| {row.model} | {row.engine} | {row.precision} | {camera} | {measured} |")
    return "\n".join(lines) + "\n"
