"""Where a network's time goes: OpenVINO's own clock of every layer, by kind.

`python -m tools.benchmarks.layers --models enet` writes layers.json and layers.md.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass

from rt_segmentation.benchmark.cores import core_round_trip_ns
from rt_segmentation.benchmark.report import Result, page_head, write_result
from rt_segmentation.commands.options import add_models, add_out, add_sizes, parse_size, say
from rt_segmentation.inference.engines import build_engine
from rt_segmentation.inference.engines.export import LABELS_ONLY, graph_entry, onnx_model
from rt_segmentation.inference.engines.openvino_engine import compile_graph
from rt_segmentation.inference.engines.openvino_int8.ranges import load_ranges
from rt_segmentation.inference.parity import parity_frames
from rt_segmentation.inference.tuned import options_for
from rt_segmentation.models import ModelManifest, find_model
from tools.benchmarks.networks import NetworkCost, network_cost
from tools.benchmarks.peak import PEAK_S, measure_peaks
from tools.running import run_tool

WARM_UP_FRAMES = 5
FRAMES = 50


@dataclass(frozen=True)
class LayerKind:
    """All layers of one kind in one frame.

    Attributes:
        kind: OpenVINO's name of the operation.
        kernel: its name of what executes it, with the type of its input.
        count: how many there are.
        ms: their time together, the mean of the frames.
    """

    kind: str
    kernel: str
    count: int
    ms: float


@dataclass(frozen=True)
class Row:
    """The layers of a model, as written to layers.json.

    Attributes:
        model: name or manifest.
        width, height: of the frame [px].
        precision: of the engine.
        arithmetic_ms: what the convolutions would take at the machine's peak; None without it.
        core_round_trip_ns: measured just before (`cores`); None on one core.
        layers: the longest kind first.
    """

    model: str
    width: int
    height: int
    precision: str
    arithmetic_ms: float | None
    core_round_trip_ns: float | None
    layers: list[LayerKind]


def measure_layers(manifest: ModelManifest, precision: str, width: int, height: int) -> list[LayerKind]:
    """Time the layers of a model on frames of width x height [px], the longest kind first.

    It is set as `rt_seg tune` found, or as ships for this processor.

    A clock around every layer takes time as well: the sum is some percent above that of a frame without it.

    Raises:
        EngineError: OpenVINO, or the precision, is not to be had here.
    """
    # Says what is missing, and passes the gate.
    build_engine(manifest, "openvino", precision).prepare(1, height, width)
    options = options_for(manifest, "openvino", precision, 1, height, width, 1)
    graph = onnx_model(graph_entry(manifest, 1, height, width), LABELS_ONLY)
    ranges = load_ranges(manifest) if precision == "int8" else None
    compiled = compile_graph(
        graph, manifest, precision, ranges, properties={"PERF_COUNT": True}, tuned=options
    )
    request = compiled.create_infer_request()
    frame = parity_frames(height, width)[:1]
    total_ms: dict[tuple[str, str], float] = defaultdict(float)
    layers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for number in range(WARM_UP_FRAMES + FRAMES):
        request.infer([frame], share_inputs=True)
        if number < WARM_UP_FRAMES:
            continue
        for layer in request.profiling_info:
            # What is left out, or done by another layer, has no time.
            if layer.real_time.total_seconds() > 0:
                kind = (layer.node_type, layer.exec_type)
                total_ms[kind] += layer.real_time.total_seconds() * 1e3 / FRAMES
                layers[kind].add(layer.node_name)
    kinds = [LayerKind(*kind, len(layers[kind]), round(ms, 3)) for kind, ms in total_ms.items()]
    return sorted(kinds, key=lambda kind: -kind.ms)


def arithmetic_ms(cost: NetworkCost, peak_gops: float) -> float:
    """What the convolutions of a frame would take at a peak of 1e9 operations a second [ms]."""
    return 2 * cost.gmacs / peak_gops * 1e3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(parser)
    add_sizes(parser)
    parser.add_argument("--precisions", nargs="+", default=["int8"], help="precisions (default int8)")
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Time the layers of each model; writes layers.json and layers.md.

    Raises:
        EngineError: a precision is not to be had here.
        ModelError: there is no such model.
    """
    sizes = [parse_size(text) for text in arguments.sizes]
    precisions = arguments.precisions
    peaks = measure_peaks([("openvino", precision) for precision in precisions], PEAK_S, say)
    rows: list[Row] = []
    for model in arguments.models:
        manifest = find_model(model)
        for width, height in sizes:
            cost = network_cost(manifest, model, width, height)
            for precision in precisions:
                say(f"{model} {width}x{height} {precision}")
                round_trip_ns = core_round_trip_ns()
                kinds = measure_layers(manifest, precision, width, height)
                peak_gops = peaks.get(("openvino", precision))
                limit_ms = None if peak_gops is None else round(arithmetic_ms(cost, peak_gops), 2)
                rows.append(Row(model, width, height, precision, limit_ms, round_trip_ns, kinds))
    write_result(arguments.out, "layers", rows, to_markdown)


def to_markdown(result: Result[Row]) -> str:
    """A table for each model, size and precision."""
    lines = [
        *page_head("Layers", result),
        "Times of one frame by OpenVINO's clock around every layer, by kind; `arithmetic` is what the"
        " convolutions would take at the rate that plain 3x3 convolutions with 256 channels reach here.",
    ]
    for row in result.rows:
        total_ms = sum(kind.ms for kind in row.layers)
        limit = "" if row.arithmetic_ms is None else f"; arithmetic {row.arithmetic_ms:.1f} ms"
        if row.core_round_trip_ns is not None:
            limit += f"; {row.core_round_trip_ns:.0f} ns from core to core and back"
        count = sum(kind.count for kind in row.layers)
        lines += [
            "",
            f"## {row.model}, {row.width}x{row.height}, {row.precision}",
            "",
            f"{count} layers, {total_ms:.1f} ms{limit}.",
            "",
            "| operation | kernel | layers | ms | share |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {k.kind} | {k.kernel} | {k.count} | {k.ms:.2f} | {k.ms / total_ms:.0%} |" for k in row.layers
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
