"""Engines as the papers time them, with what bounds each (LinkNet, Table II and III; ENet, Table 2).

Beside what `rt_seg benchmark engines` measures: SegNet with random weights, all of the papers' sizes, what
part of the machine's arithmetic is reached, the mean IoU that an engine loses on CamVid, and a chart.
`python -m tools.benchmarks.engines --compare eager --data-root /data/camvid`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.benchmark.report import MAX_LOSS, Result, to_markdown, too_lossy, write_json, write_page
from rt_segmentation.benchmark.worker import EAGER
from rt_segmentation.commands.benchmark_engines import add_timing, groups, has_cuda, time_groups
from rt_segmentation.commands.options import MODELS, add_benchmark, parse_size, say
from rt_segmentation.files import write_atomically
from rt_segmentation.inference.engines import EngineError, installed
from rt_segmentation.models import ModelManifest
from tools.benchmarks.chart import draw_chart
from tools.benchmarks.networks import SEGNET, NetworkCost, benchmarked_model, network_cost, sizes_for
from tools.benchmarks.peak import PEAK_S, Peak, measure_peaks, put_beside_peaks
from tools.running import run_tool

FULL_MINUTES = 60.0
TABLE_SIZE = (640, 360)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_benchmark(parser)
    add_timing(parser)
    parser.add_argument("--full", action="store_true", help="all of the papers' sizes, an hour or more")
    parser.add_argument("--data-root", type=Path, help="CamVid's folder, to measure the mean IoU lost")
    parser.set_defaults(models=[*MODELS, SEGNET], sizes=[])


def main(arguments: argparse.Namespace) -> None:
    """Time the engines; writes engines.json, engines.md and engines.png.

    Raises:
        BenchmarkError: a batch has no frame.
        EngineError: no engine of those asked for works here.
        ModelError: there is no such model.
        DatasetError: the data are not CamVid's.
    """
    deadline = time.monotonic() + 60 * (FULL_MINUTES if arguments.full else arguments.minutes)
    cuda = has_cuda() or any(engine in ("torch2trt", "tensorrt") for engine, _ in installed())
    sizes = [parse_size(text) for text in arguments.sizes]
    with tempfile.TemporaryDirectory() as folder:
        models = {name: benchmarked_model(name, Path(folder)) for name in arguments.models}
        found = groups(arguments, models, lambda network: sizes or sizes_for(network, arguments.full, cuda))
        pairs = list(dict.fromkeys(pair for group in found for pair in group.candidates))
        peaks = measure_peaks(pairs, PEAK_S, say)
        rows = time_groups(found, models, deadline)
        costs = [network_cost(manifest, name, *TABLE_SIZE) for name, manifest in models.items()]
        gmacs = {
            (row.model, row.width, row.height): network_cost(
                models[row.model], row.model, row.width, row.height
            ).gmacs
            for row in rows
        }
        put_beside_peaks(rows, lambda row: gmacs[row.model, row.width, row.height], peaks)
        result, reached = Result(rows), [Peak(*pair, round(gops, 1)) for pair, gops in peaks.items()]
        write_json(arguments.out, "engines", result.to_plain(networks=costs, peaks=reached))
        if arguments.data_root is not None:
            costs = _measure_losses(rows, models, costs, arguments.data_root)
            write_json(arguments.out, "engines", result.to_plain(networks=costs, peaks=reached))
    chart = draw_chart(result, costs)
    if chart is not None:
        write_atomically(arguments.out / "engines.png", chart)
    page = to_markdown(result, explain(rows, costs, reached, chart is not None))
    write_page(arguments.out, "engines", page)


def explain(
    rows: Sequence[Row], costs: Sequence[NetworkCost], peaks: Sequence[Peak], charted: bool
) -> list[str]:
    """The lines before the tables of times: what the columns mean, the networks, and the machine's peaks.

    Args:
        rows: of the tables.
        costs: of the networks.
        peaks: of the machine.
        charted: whether engines.png lies beside the page.
    """
    lines = [
        "",
        "GOPS are 1e9 operations of the convolutions per second, 2 for a multiply-add; `of peak` is their"
        " share of what the same engine reaches here in plain 3x3 convolutions with 256 channels.",
    ]
    if any(too_lossy(row) for row in rows):
        lines += ["", f"(!) loses more than {MAX_LOSS} points of mean IoU: this row counts for no claim."]
    if charted:
        lines += ["", "![Latency against mean IoU](engines.png)"]
    lines += ["", *_network_table(costs)]
    if peaks:
        lines += ["", "| engine | precision | peak [GOPS] |", "|---|---|---|"]
        lines += [f"| {peak.engine} | {peak.precision} | {peak.gops:.0f} |" for peak in peaks]
    return lines


def _network_table(costs: Sequence[NetworkCost]) -> list[str]:
    lines = [
        "| network | model | GMACs at 640x360 | parameters | fp16 [MiB] | GFLOPs in the paper | mean IoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        cells = (
            cost.network,
            cost.model,
            f"{cost.gmacs:.2f}",
            f"{cost.parameters / 1e6:.2f} M",
            f"{cost.fp16_mib:.1f}",
            _number(cost.paper_gflops, 1),
            _number(cost.mean_iou, 3),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _measure_losses(
    rows: Sequence[Row],
    models: dict[str, ModelManifest],
    costs: Sequence[NetworkCost],
    data_root: Path,
) -> list[NetworkCost]:
    """Fill in `miou_loss`; returns the costs with the measured mean IoU of torch in fp32.

    It is measured at the size that the segmenter takes for CamVid's frames, once for all sizes of a row.
    """
    from rt_segmentation.data.camvid import CamVid
    from rt_segmentation.evaluation.dataset import evaluate
    from rt_segmentation.evaluation.metrics import ConfusionMatrix
    from rt_segmentation.inference.segmenter import Segmenter

    dataset = CamVid(data_root, "val")
    scores: dict[tuple[str, str, str], float] = {}

    def score(model: str, engine: str, precision: str) -> float:
        key = (model, engine, precision)
        if key not in scores:
            say(f"{model} {engine} {precision}: mean IoU on CamVid val")
            confusion = ConfusionMatrix(len(dataset.label_set.classes), dataset.ignored_ids)
            for _, frame in evaluate(Segmenter.build(models[model], engine, precision), dataset):
                confusion.add(frame)
            scores[key] = confusion.mean_iou()
        return scores[key]

    for row in rows:
        if row.problem or row.network == SEGNET or (row.engine, row.precision) == (EAGER, "fp16"):
            continue
        reference = score(row.model, "torch", "fp32")
        try:
            own = reference if row.engine == EAGER else score(row.model, row.engine, row.precision)
        except EngineError as error:
            # The gate may pass it at the timed size and refuse it at CamVid's.
            say(f"{row.model} {row.engine} {row.precision}: no mean IoU: {error}")
            continue
        row.miou_loss = round((reference - own) * 100, 3)
    return [
        replace(cost, mean_iou=scores.get((cost.model, "torch", "fp32"), cost.mean_iou)) for cost in costs
    ]


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
