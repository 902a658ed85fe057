"""The benchmark as a picture: latency against mean IoU."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.benchmark.report import Result
from tools.benchmarks.networks import NetworkCost

SIZE = (640, 360)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = {
    "eager": "X",
    "torch": "s",
    "openvino": "o",
    "onnxruntime": "^",
    "torch2trt": "D",
    "tensorrt": "d",
}
# Points of a network lie side by side: their labels take turns above and below.
_OFFSETS_PT = (10, -10)


def draw_chart(result: Result[Row], costs: Sequence[NetworkCost]) -> bytes | None:
    """Draw a benchmark's rows of one size, 640x360 where it is among them.

    Args:
        result: of engines.
        costs: of the networks, with their mean IoU.

    Returns:
        A PNG; None where no row has both a time and a mean IoU.
    """
    accuracy = {cost.model: cost.mean_iou for cost in costs if cost.mean_iou is not None}
    usable = [row for row in result.rows if row.median_ms is not None and row.model in accuracy]
    if not usable:
        return None
    sizes = [(row.width, row.height) for row in usable]
    size = SIZE if SIZE in sizes else sizes[0]
    rows = [row for row, own in zip(usable, sizes) if own == size]
    rows = [row for row in rows if row.batch == rows[0].batch]

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(10, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    models = list(dict.fromkeys(row.model for row in rows))
    for model, colour in zip(models, _COLOURS * len(models)):
        own = sorted(
            ((row.median_ms, row) for row in rows if row.model == model and row.median_ms is not None),
            key=lambda timed: timed[0],
        )
        for index, (median_ms, row) in enumerate(own):
            y = 100 * accuracy[model] - (row.miou_loss or 0.0)
            below = index % 2
            axes.plot(
                median_ms,
                y,
                _MARKERS.get(row.engine, "o"),
                color=colour,
                markersize=9,
                label=model if index == 0 else None,
                markeredgecolor="white",
            )
            axes.annotate(
                f"{row.engine} {row.precision}",
                (median_ms, y),
                xytext=(0, _OFFSETS_PT[below]),
                textcoords="offset points",
                rotation=45,
                ha="right" if below else "left",
                va="top" if below else "bottom",
                rotation_mode="anchor",
                fontsize=8,
                color=colour,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    axes.margins(x=0.15, y=0.35)
    axes.set_xlabel("median latency of a frame [ms], logarithmic")
    axes.set_ylabel("mean IoU on CamVid val [%]")
    machine = result.environment.machine
    axes.set_title(f"{size[0]}x{size[1]} on {machine.cpu}, {machine.cores} cores")
    axes.grid(which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="model", frameon=False)
    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png")
    return picture.getvalue()
