"""The node beside a node as tutorials have it (`plain_node`), over DDS.

`python -m tools.benchmarks.beside_plain --models enet` writes plain.json and plain.md. With `--cameras 1 2 4`
it measures so many cameras with one node, a node for each, and a plain node for each: cameras.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rt_segmentation.benchmark.cameras import Layout, Part, one_node, separate_nodes
from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.node import SEGMENTATION, Bench, Run, Subject
from rt_segmentation.benchmark.report import Result, SoFar
from rt_segmentation.commands import benchmark_cameras
from rt_segmentation.commands.benchmark_node import Row, Setting, to_markdown, with_failure
from rt_segmentation.commands.options import add_engine, add_models, add_out, say
from rt_segmentation.ros.parameters import Value
from tools.running import run_tool

PLAIN = Subject("plain_node", "tools.benchmarks.plain_node", "/plain_node/image", "/plain_node/label")
# A common camera, and a network size that all networks take unpadded. At the higher rate the camera bounds
# neither.
CAMERA, NETWORK, RATES_HZ = (1280, 720), (640, 384), (30.0, 60.0)
ROUNDS = 3


@dataclass(frozen=True)
class ComparedRow(Row):
    """A row of the segmentation node: its rate and its median latency by those of the plain one."""

    plain_rate_ratio: float = 0.0
    plain_latency_ratio: float = 0.0

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return {
            **super().to_plain(),
            "plain_rate_ratio": self.plain_rate_ratio,
            "plain_latency_ratio": self.plain_latency_ratio,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(parser)
    add_engine(parser)
    parser.add_argument("--parallel", type=int, default=1, help="the node's parallel_frames (default 1)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round (default 3)")
    parser.add_argument(
        "--cameras", type=int, nargs="+", default=[], metavar="N", help="of 640x360, concurrently"
    )
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Measure both nodes with each model; a model that fails is a row that says so.

    Raises:
        BenchmarkError: no model could be measured.
    """
    if arguments.cameras:
        _measure_cameras(arguments)
        return
    rows: list[Row] = []
    result, so_far = Result(rows), SoFar(arguments.out, "plain", say)
    with Bench(arguments.out / "logs", say) as bench:
        for model in arguments.models:
            setting = Setting("rt_segmentation", model, arguments.parallel, CAMERA, NETWORK)
            engine = {"engine": arguments.engine, "precision": arguments.precision}
            rows += with_failure(setting, _measure(bench, setting, engine, arguments.seconds))
            page = to_markdown(result) + "\n".join(["", *_sentences(rows)]) + "\n"
            so_far.write(result.to_plain(), page)
    print(page)
    if all(row.problem for row in rows):
        raise BenchmarkError(f"no model could be measured; {rows[0].problem}")
    so_far.check()


def _measure_cameras(arguments: argparse.Namespace) -> None:
    def layouts(number: int, parameters: dict[str, Value]) -> list[Layout]:
        above = [f"/plain_{place}" for place in range(number)]
        given = {"model": parameters["model"], "width": 640, "height": 360}
        plain = Layout(
            "plain nodes",
            tuple(Part(PLAIN.module, namespace, given) for namespace in above),
            tuple(f"{namespace}/plain_node/image" for namespace in above),
            tuple(f"{namespace}/plain_node/label" for namespace in above),
        )
        return [one_node(number, parameters), separate_nodes(number, parameters), plain]

    chosen = {**vars(arguments), "sizes": ["640x360"], "parallel": [arguments.parallel]}
    plays = 3 * benchmark_cameras.ROUNDS * len(arguments.cameras)
    minutes = plays * (arguments.seconds + benchmark_cameras.OVERHEAD_S) / 60
    benchmark_cameras.main(argparse.Namespace(**{**chosen, "minutes": minutes}), layouts)


def _measure(bench: Bench, setting: Setting, engine: dict[str, str], seconds: float) -> Iterator[Row]:
    """Both nodes in turn, so that a noisy machine disturbs both alike; of each its round of median rate."""
    width, height = NETWORK
    ours: dict[str, Value] = {
        "model": setting.model,
        "parallel_frames": setting.parallel_frames,
        **engine,
        "input_width": width,
        "input_height": height,
    }
    plain: dict[str, Value] = {"model": setting.model, "width": width, "height": height}
    with bench.start(SEGMENTATION, ours) as node, bench.start(PLAIN, plain) as plain_node:
        subjects = ((SEGMENTATION, node), (PLAIN, plain_node))
        for subject, process in subjects:
            bench.warm_up(subject, process, CAMERA)
        for rate in RATES_HZ:
            rounds = [
                [bench.play(subject, process, CAMERA, rate, seconds) for subject, process in subjects]
                for _ in range(ROUNDS)
            ]
            own, other = (sorted(runs, key=lambda r: r.output_hz)[len(runs) // 2] for runs in zip(*rounds))
            yield from compare(setting, f"{rate:g} Hz", own, other)


def compare(setting: Setting, name: str, own: Run, other: Run) -> tuple[ComparedRow, Row]:
    """The rows of both nodes.

    Args:
        setting: of the segmentation node.
        name: of the run.
        own: of the segmentation node.
        other: of the plain one.

    Raises:
        BenchmarkError: one gave too few masks.
    """
    if not (own.output_hz and other.output_hz):
        raise BenchmarkError("too few masks came to compare the nodes: the machine is too busy")
    compared = ComparedRow(
        setting,
        name,
        own,
        plain_rate_ratio=round(own.output_hz / other.output_hz, 2),
        plain_latency_ratio=round(own.latency_p50_ms / other.latency_p50_ms, 3),
    )
    return compared, Row(replace(setting, node="plain", parallel_frames=1), name, other)


def _sentences(rows: list[Row]) -> Iterator[str]:
    yield (
        "`plain` is a node as tutorials have it: eager PyTorch, conversion by copies, inference in the"
        " callback."
    )
    for row in rows:
        if isinstance(row, ComparedRow):
            yield (
                f"- {row.setting.model}, {row.setting.parallel_frames} concurrently:"
                f" {row.plain_rate_ratio:.1f} x the plain node's rate at {row.plain_latency_ratio:.2f}"
                f" of its median latency, camera at {row.run}."
            )


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
