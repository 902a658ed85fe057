"""`rt_seg benchmark`: measurements of this machine, as JSON and as Markdown."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rt_segmentation.benchmark.engines import Group, Row, time_group
from rt_segmentation.benchmark.report import environment, to_json, to_markdown
from rt_segmentation.benchmark.worker import EAGER
from rt_segmentation.evaluation.dataset import evaluate
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.inference.engines import ENGINES, EngineError, build_engine
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import find_model, write_atomically

PRECISIONS = ("fp32", "bf16", "fp16")
NODE_PLAY_S = 8.0


class BenchmarkError(ValueError):
    """A wrong argument, or a machine on which nothing can be measured."""


def run(arguments: argparse.Namespace) -> None:
    """Measure engines or the node."""
    sizes = [_size(text) for text in arguments.sizes]
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.subject == "engines":
        _engines(arguments, sizes)
    else:
        _node(arguments, sizes)


def _engines(arguments: argparse.Namespace, sizes: list[tuple[int, int]]) -> None:
    groups = []
    for model in arguments.models:
        manifest = find_model(model)
        candidates = _candidates(model, arguments.engines, arguments.precisions)
        if arguments.compare == EAGER:
            candidates = [(EAGER, "fp32"), *candidates]
        groups += [Group(manifest.network, model, *size, tuple(candidates)) for size in sizes]
    seconds = arguments.minutes * 60 / max(1, len(groups))
    rows: list[Row] = []
    for group in groups:
        rows += time_group(group, seconds, _say)
    if arguments.data_root is not None:
        _measure_losses(rows, arguments.data_root)
    content = to_json(rows, _command())
    _write(arguments.out / "engines.json", json.dumps(content, indent=2) + "\n")
    text = to_markdown(content)
    _write(arguments.out / "engines.md", text)
    print(text)


def _candidates(model: str, engines: list[str], precisions: list[str]) -> list[tuple[str, str]]:
    """Pairs of engine and precision that can be built here; what was asked for by name must be."""
    found = []
    for engine in engines or list(ENGINES):
        for precision in precisions or PRECISIONS:
            try:
                build_engine(find_model(model), engine, precision)
            except EngineError as error:
                _say(f"left out: {error}")
                continue
            found.append((engine, precision))
    if not found:
        raise BenchmarkError(f"no engine of {', '.join(engines) or 'all'} works here for {model}")
    return found


def _measure_losses(rows: list[Row], data_root: Path) -> None:
    from rt_segmentation.data.camvid import CamVid

    dataset = CamVid(data_root, "val")
    scores: dict[tuple[str, str, str], float] = {}

    def score(model: str, engine: str, precision: str) -> float:
        key = (model, engine, precision)
        if key not in scores:
            _say(f"{model} {engine} {precision}: mean IoU on CamVid val")
            confusion = ConfusionMatrix(len(dataset.label_set.classes))
            for _, frame in evaluate(Segmenter.build(find_model(model), engine, precision), dataset):
                confusion.add(frame)
            scores[key] = confusion.mean_iou()
        return scores[key]

    for row in rows:
        if row.problem:
            continue
        reference = score(row.model, "torch", "fp32")
        own = reference if row.engine == EAGER else score(row.model, row.engine, row.precision)
        row.miou_loss = round((reference - own) * 100, 3)


def _node(arguments: argparse.Namespace, sizes: list[tuple[int, int]]) -> None:
    if importlib.util.find_spec("rclpy") is None:
        raise BenchmarkError("the node needs ROS 2: source an installation, or install rt_segmentation[ros]")
    from dataclasses import asdict

    from rt_segmentation.benchmark.node import benchmark_node

    results: list[dict[str, Any]] = []
    for model in arguments.models:
        for size in sizes:
            nodes = {
                "rt_segmentation": (
                    "rt_segmentation.ros.segmentation_node",
                    {"model": model, "engine": (arguments.engines or ["auto"])[0]},
                    "/segmentation_node/label",
                )
            }
            if arguments.compare == EAGER:
                nodes["plain"] = (
                    "rt_segmentation.benchmark.plain_node",
                    {"model": model},
                    "/plain_node/label",
                )
            for name, (module, parameters, topic) in nodes.items():
                _say(f"{name}, {model}, camera {size[0]}x{size[1]}")
                runs = benchmark_node(
                    module, parameters, topic, size, arguments.out / "logs", NODE_PLAY_S, _say
                )
                described = {"node": name, "model": model, "width": size[0], "height": size[1]}
                results += [{**described, "run": key, **asdict(run)} for key, run in runs.items()]
    content = {"command": _command(), **environment(), "rows": results}
    _write(arguments.out / "node.json", json.dumps(content, indent=2) + "\n")
    text = node_markdown(content)
    _write(arguments.out / "node.md", text)
    print(text)


def node_markdown(content: dict[str, Any]) -> str:
    """The node's runs as a table."""
    machine = content["machine"]
    heads = ("node", "model", "camera", "run", "sent [Hz]", "masks [Hz]", "missing", "p50 [ms]", "p95 [ms]")
    lines = [
        "# The whole node over DDS",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; commit {content['commit']}.",
        f"Command: `{content['command']}`.",
        "`highest` is the highest rate found with less than 1 % of the frames missing.",
        "",
        f"| {' | '.join((*heads, 'CPU [%]', 'memory [MB]'))} |",
        "|" + "---|" * (len(heads) + 2),
    ]
    for row in content["rows"]:
        cells = (
            row["node"],
            row["model"],
            f"{row['width']}x{row['height']}",
            row["run"],
            f"{row['rate_hz']:.1f}",
            f"{row['output_hz']:.1f}",
            f"{row['drop_ratio']:.1%}",
            f"{row['latency_p50_ms']:.1f}",
            f"{row['latency_p95_ms']:.1f}",
            f"{row['cpu_percent']:.0f}",
            f"{row['memory_mb']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise BenchmarkError(f"size '{text}' is not WIDTHxHEIGHT in px, as 640x360, both 32 or more")
    return int(width), int(height)


def _command() -> str:
    return shlex.join(["rt_seg", *sys.argv[1:]])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode())
