"""`rt_seg benchmark engines`: networks x sizes x engines x precisions, with what bounds each."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rt_segmentation.benchmark.engines import PEAK_S, Group, Row, measure_peaks, put_beside_peaks, time_group
from rt_segmentation.benchmark.networks import (
    SEGNET,
    NetworkCost,
    benchmarked_model,
    network_cost,
    sizes_for,
)
from rt_segmentation.benchmark.report import command_line, to_json, to_markdown, write_json, write_page
from rt_segmentation.benchmark.worker import EAGER
from rt_segmentation.files import write_atomically
from rt_segmentation.inference.engines import ENGINES, EngineError, build_engine, installed
from rt_segmentation.models import ModelManifest

FULL_MINUTES = 60.0
# Of each candidate, before it is timed: its process, its libraries, its graph.
BUILD_S = 5.0
TABLE_SIZE = (640, 360)

Say = Callable[[str], None]


def run(arguments: argparse.Namespace, sizes: Sequence[tuple[int, int]], say: Say) -> None:
    """Time the engines; writes engines.json, engines.md and engines.png.

    Args:
        arguments: of the command line.
        sizes: (width, height) of the frames [px]; none for the default ones.
        say: told what happens.

    Raises:
        EngineError: no engine of those asked for works here.
        ModelError: there is no such model.
        DatasetError: the data are not CamVid's.
    """
    from rt_segmentation.benchmark.chart import draw_chart

    deadline = time.monotonic() + 60 * (FULL_MINUTES if arguments.full else arguments.minutes)
    with tempfile.TemporaryDirectory() as folder:
        models = {name: benchmarked_model(name, Path(folder)) for name in arguments.models}
        groups = _groups(arguments, models, sizes, say)
        pairs = list(dict.fromkeys(pair for group in groups for pair in group.candidates))
        peaks = measure_peaks(pairs, PEAK_S, say)
        rows: list[Row] = []
        for index, group in enumerate(groups):
            share = (deadline - time.monotonic()) / (len(groups) - index)
            rows += time_group(group, share - BUILD_S * len(group.candidates), say)
        names = {str(manifest.path): name for name, manifest in models.items()}
        for row in rows:
            row.model = names[row.model]
        costs = [network_cost(manifest, name, *TABLE_SIZE) for name, manifest in models.items()]
        gmacs = {
            (row.model, row.width, row.height): network_cost(
                models[row.model], row.model, row.width, row.height
            ).gmacs
            for row in rows
        }
        put_beside_peaks(rows, lambda row: gmacs[row.model, row.width, row.height], peaks)
        content = _write_json(arguments, rows, costs, peaks)
        if arguments.data_root is not None:
            costs = _measure_losses(rows, models, costs, arguments.data_root, say)
            content = _write_json(arguments, rows, costs, peaks)
    chart = draw_chart(content)
    if chart is not None:
        write_atomically(arguments.out / "engines.png", chart)
    write_page(arguments.out, "engines", to_markdown(content, "engines.png" if chart else None))


def _write_json(
    arguments: argparse.Namespace,
    rows: Sequence[Row],
    costs: Sequence[NetworkCost],
    peaks: dict[tuple[str, str], float],
) -> dict[str, Any]:
    content = to_json(rows, costs, peaks, command_line())
    write_json(arguments.out, "engines", content)
    return content


def _groups(
    arguments: argparse.Namespace,
    models: dict[str, ModelManifest],
    sizes: Sequence[tuple[int, int]],
    say: Say,
) -> list[Group]:
    cuda = any(engine == "torch2trt" for engine, _ in installed()) or _has_cuda()
    eager = [(EAGER, "fp32"), (EAGER, "fp16")] if cuda else [(EAGER, "fp32")]
    groups = []
    for manifest in models.values():
        candidates = _candidates(manifest, arguments.engines, arguments.precisions, say)
        if arguments.compare == EAGER:
            candidates = [*eager, *candidates]
        chosen = sizes or sizes_for(manifest.network, arguments.full, cuda)
        groups += [
            Group(manifest.network, str(manifest.path), *size, tuple(candidates), batch=batch)
            for size in chosen
            for batch in arguments.batches
        ]
    return groups


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _candidates(
    manifest: ModelManifest, engines: Sequence[str], precisions: Sequence[str], say: Say
) -> list[tuple[str, str]]:
    """What is installed here and asked for; pairs that are named both are tried in any case."""
    unknown = sorted(set(engines) - set(ENGINES))
    if unknown:
        raise EngineError(f"unknown engine '{unknown[0]}'; there are {', '.join(ENGINES)}")
    if engines and precisions:
        pairs = [(engine, precision) for engine in engines for precision in precisions]
    else:
        pairs = [
            (engine, precision)
            for engine, precision in installed()
            if engine in (engines or ENGINES) and precision in (precisions or (precision,))
        ]
    found = []
    for engine, precision in pairs:
        try:
            build_engine(manifest, engine, precision)
        except EngineError as error:
            say(f"left out: {error}")
            continue
        found.append((engine, precision))
    if not found:
        raise EngineError(f"no engine of {', '.join(engines) or 'all'} works here for {manifest.name}")
    return found


def _measure_losses(
    rows: Sequence[Row],
    models: dict[str, ModelManifest],
    costs: Sequence[NetworkCost],
    data_root: Path,
    say: Say,
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
