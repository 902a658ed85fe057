"""`rt_seg benchmark startup`: the node's first mask from a warm cache, and its memory."""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import asdict, dataclass, replace
from typing import Any

from rt_segmentation.commands.options import add_benchmark, parse_size, say

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
        memory_mb: median, resident; None with a problem.
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
    problem: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_benchmark(parser)


def main(arguments: argparse.Namespace) -> None:
    """Start the node with each model and engine; writes startup.json and startup.md.

    Raises:
        EngineUnavailable: there is no ROS 2 here, or none of the engines asked for.
        ModelError: there is no such model.
        OptionError: a size is not WIDTHxHEIGHT.
    """
    import statistics

    from rt_segmentation.benchmark.report import write_result
    from rt_segmentation.inference.engines import EngineUnavailable, installed
    from rt_segmentation.models import find_model

    sizes = [parse_size(text) for text in arguments.sizes]
    if importlib.util.find_spec("rclpy") is None:
        raise EngineUnavailable(
            "the node needs ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    from rt_segmentation.benchmark.startup import start_node

    pairs = [
        (engine, precision)
        for engine, precision in installed()
        if engine in (arguments.engines or (engine,)) and precision in (arguments.precisions or (precision,))
    ]
    if not pairs:
        raise EngineUnavailable(f"no engine of {', '.join(arguments.engines) or 'all'} works here")
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
                rows.append(replace(row, first_mask_s=first_mask_s, memory_mb=memory_mb))
                say(
                    f"{model} {engine} {precision}: first mask after {first_mask_s:.2f} s, {memory_mb:.0f} MB"
                )
    write_result(arguments.out, "startup", [asdict(row) for row in rows], to_markdown)


def to_markdown(content: dict[str, Any]) -> str:
    """The starts as a table."""
    from rt_segmentation.benchmark.report import page_head

    lines = [
        *page_head("From the node's start to its first mask", content),
        "From the start of the node's process to its first mask in another one, with a camera that publishes"
        f" already, from a warm cache; medians of {ROUNDS} starts. Memory is the node's, resident.",
        "",
        "| model | engine | precision | camera | first mask [s] | memory [MB] |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        camera = f"{row['width']}x{row['height']}"
        measured = row["problem"] + " | "
        if not row["problem"]:
            measured = f"{row['first_mask_s']:.2f} | {row['memory_mb']:.0f}"
        lines.append(f"| {row['model']} | {row['engine']} | {row['precision']} | {camera} | {measured} |")
    return "\n".join(lines) + "\n"
