"""What tuning gains: plain PyTorch, and engines as they choose by themselves and as `rt_seg tune` set them.

All of a network take turns. `rt_seg tune MODEL --size 640x360 --engine ENGINE` comes first.
`python -m tools.benchmarks.tuned --data-root /data/camvid` writes tuned.json and tuned.md; with other
engines, files with their names.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rt_segmentation.benchmark.engines import Group, Row, time_group
from rt_segmentation.benchmark.report import Result, page_head, write_result
from rt_segmentation.benchmark.worker import EAGER
from rt_segmentation.commands.options import add_models, add_out, add_sizes, parse_size, say
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.models import ModelManifest, find_model
from tools.benchmarks.networks import network_cost
from tools.benchmarks.peak import PEAK_S, measure_peaks
from tools.benchmarks.tuned_worker import ENGINES, TUNED, found_options, precisions, set_engine
from tools.running import run_tool

WORKER = "tools.benchmarks.tuned_worker"

_HEADS = (
    *("network", "size", "engine", "precision", "median [ms]", "p95 [ms]", "x eager", "mIoU lost"),
    *("arithmetic [ms]", "set"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(parser)
    add_sizes(parser)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="of timing, for each network and size [s] (default 120)"
    )
    parser.add_argument(
        "--engines",
        nargs="+",
        default=["openvino"],
        choices=ENGINES,
        help="openvino in int8, and in bf16 where the processor has it; onnxruntime, torch in float32"
        " (default openvino)",
    )
    parser.add_argument("--data-root", type=Path, help="CamVid's folder, to measure the mean IoU lost")
    add_out(parser)


@dataclass(frozen=True)
class Timed:
    """One candidate of one model.

    Attributes:
        row: its times.
        model: as the command names it.
        options: what tuning found, in words; '' where the engine chooses itself.
        arithmetic_ms: what the network's convolutions would take at the rate of plain ones; None if that is
            not known.
    """

    row: Row
    model: str
    options: str
    arithmetic_ms: float | None

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types, the row's own keys beside the others."""
        more = {"model": self.model, "options": self.options, "arithmetic_ms": self.arithmetic_ms}
        return {**asdict(self.row), **more}


def main(arguments: argparse.Namespace) -> None:
    """Time the three of each model and size; writes what it found.

    Raises:
        DatasetError: the data are not CamVid's.
        EngineError: an engine, or int8, is not to be had here.
        ModelError: there is no such model.
        OptionError: a size is not WIDTHxHEIGHT.
    """
    sizes = [parse_size(text) for text in arguments.sizes]
    engines = [(engine, precision) for engine in arguments.engines for precision in precisions(engine)]
    candidates = [
        (EAGER, "fp32"),
        *((engine + ending, precision) for engine, precision in engines for ending in ("", TUNED)),
    ]
    peaks = measure_peaks(engines, PEAK_S, say)
    rows: list[Timed] = []
    for model in arguments.models:
        manifest = find_model(model)
        for width, height in sizes:
            group = Group(manifest.architecture, str(manifest.path), width, height, candidates)
            timed = time_group(group, arguments.seconds, say, WORKER)
            if arguments.data_root is not None:
                _measure_losses(timed, manifest, arguments.data_root)
            gops = 2 * network_cost(manifest, model, width, height).gmacs
            for row in timed:
                options, name = _options(manifest, row), row.engine.removesuffix(TUNED)
                peak = peaks.get((name, row.precision))
                said = options.describe() if row.engine != name else ""
                rows.append(Timed(row, model, said, None if peak is None else round(gops / peak * 1e3, 2)))
    others = [engine for engine in arguments.engines if engine != "openvino"]
    write_result(arguments.out, "_".join(["tuned", *others]), rows, to_markdown)


def to_markdown(result: Result[Timed]) -> str:
    """A table of all models and sizes."""
    lines = [
        *page_head("Tuned", result),
        "",
        "Medians of a frame; the candidates of a network take turns. `eager` is plain PyTorch, float32,"
        " contiguous, forward pass alone, of the network as trained; an engine's name alone is the engine as"
        " it chooses itself; `arithmetic` is what the network's convolutions would take at the rate that"
        " plain 3x3 convolutions with 256 channels reach here in the same engine and precision.",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|" + "---|" * len(_HEADS),
    ]
    for timed in result.rows:
        row = timed.row
        name = f"| {timed.model} | {row.width}x{row.height} | {row.engine} | {row.precision} | "
        if row.problem:
            lines.append(f"{name}{row.problem} | | | | | |")
            continue
        measured = (
            (row.median_ms, ".1f"),
            (row.p95_ms, ".1f"),
            (row.eager_ratio, ".2f"),
            (row.miou_loss, ".2f"),
        )
        cells = [_cell(value, form) for value, form in measured]
        arithmetic = "" if row.engine == EAGER else _cell(timed.arithmetic_ms, ".1f")
        lines.append(name + " | ".join((*cells, arithmetic, timed.options)) + " |")
    return "\n".join(lines) + "\n"


def _options(manifest: ModelManifest, row: Row) -> Options:
    """How a candidate is set."""
    engine = row.engine.removesuffix(TUNED)
    if engine == row.engine:
        return PLAIN
    return found_options(manifest, engine, row.precision, row.width, row.height) or PLAIN


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _measure_losses(rows: list[Row], manifest: ModelManifest, data_root: Path) -> None:
    """Fill in `miou_loss` against PyTorch in float32, at the size that a node takes for CamVid's.

    Kernels are chosen for one size; here the choice for the timed size is judged at CamVid's, where groups of
    layers have other names: what holds for every convolution is taken.
    """
    from rt_segmentation.data.camvid import CamVid
    from rt_segmentation.evaluation.dataset import evaluate
    from rt_segmentation.evaluation.metrics import ConfusionMatrix
    from rt_segmentation.inference.engines import Engine, build_engine
    from rt_segmentation.inference.segmenter import Segmenter, SegmenterConfig

    dataset = CamVid(data_root, "val")

    def score(engine: Engine) -> float:
        say(f"{manifest.name} {engine.name} {engine.precision}: mean IoU on CamVid val")
        segmenter = Segmenter(SegmenterConfig(manifest, manifest.labels(), engine))
        confusion = ConfusionMatrix(len(dataset.label_set.classes), dataset.ignored_ids)
        for _, frame in evaluate(segmenter, dataset):
            confusion.add(frame)
        return confusion.mean_iou()

    reference = score(build_engine(manifest, "torch", "fp32"))
    for row in rows:
        if row.problem or row.engine == EAGER:
            continue
        engine = set_engine(manifest, row.engine.removesuffix(TUNED), row.precision, _options(manifest, row))
        row.miou_loss = round((reference - score(engine)) * 100, 3)


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
