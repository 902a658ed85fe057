"""`rt_seg benchmark layers`: what a network's time in OpenVINO consists of."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rt_segmentation.benchmark.cores import core_round_trip_ns
from rt_segmentation.benchmark.engines import PEAK_S, measure_peaks
from rt_segmentation.benchmark.networks import network_cost
from rt_segmentation.benchmark.report import page_head, write_result
from rt_segmentation.inference.engines import EngineUnavailable
from rt_segmentation.models import find_model

PRECISION = "int8"


def run(arguments: argparse.Namespace, sizes: Sequence[tuple[int, int]], say: Callable[[str], None]) -> None:
    """Time the layers of each model; writes layers.json and layers.md.

    Args:
        arguments: of the command line.
        sizes: (width, height) of the frames [px].
        say: told what happens.

    Raises:
        EngineError: OpenVINO, or a precision, is not to be had here.
        ModelError: there is no such model.
    """
    if importlib.util.find_spec("openvino") is None:
        raise EngineUnavailable("layers are timed by OpenVINO: pip install openvino")
    from rt_segmentation.benchmark.layers import arithmetic_ms, measure_layers

    precisions = arguments.precisions or [PRECISION]
    peaks = measure_peaks([("openvino", precision) for precision in precisions], PEAK_S, say)
    rows: list[dict[str, Any]] = []
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
                described = {"model": model, "width": width, "height": height, "precision": precision}
                measured = {"arithmetic_ms": limit_ms, "core_round_trip_ns": round_trip_ns}
                rows.append({**described, **measured, "layers": [asdict(kind) for kind in kinds]})
    write_result(arguments.out, "layers", rows, to_markdown)


def to_markdown(content: dict[str, Any]) -> str:
    """A table for each model, size and precision."""
    lines = [
        *page_head("Layers", content),
        "Times of one frame by OpenVINO's clock around every layer, by kind; `arithmetic` is what the"
        " convolutions would take at the rate that plain 3x3 convolutions with 256 channels reach here.",
    ]
    for row in content["rows"]:
        total_ms = sum(kind["ms"] for kind in row["layers"])
        limit = "" if row["arithmetic_ms"] is None else f"; arithmetic {row['arithmetic_ms']:.1f} ms"
        if row["core_round_trip_ns"] is not None:
            limit += f"; {row['core_round_trip_ns']:.0f} ns from core to core and back"
        count = sum(kind["count"] for kind in row["layers"])
        lines += [
            "",
            f"## {row['model']}, {row['width']}x{row['height']}, {row['precision']}",
            "",
            f"{count} layers, {total_ms:.1f} ms{limit}.",
            "",
            "| operation | kernel | layers | ms | share |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {k['kind']} | {k['kernel']} | {k['count']} | {k['ms']:.2f} | {k['ms'] / total_ms:.0%} |"
            for k in row["layers"]
        ]
    return "\n".join(lines) + "\n"
