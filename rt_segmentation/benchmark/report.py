"""A benchmark's result for machines (JSON) and for people (Markdown, a chart)."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.benchmark.networks import NetworkCost
from rt_segmentation.files import write_atomically
from rt_segmentation.provenance import environment

MAX_LOSS = 0.5
"""Points of mean IoU that an engine may lose for its time to count."""

_HEADS = (
    "engine",
    "precision",
    "median [ms]",
    "p95 [ms]",
    "fps",
    "memory [MB]",
    "x eager",
    "mIoU lost",
    "GOPS",
    "of peak",
    "cores [ns]",
)


def command_line() -> str:
    """The command that is running, as it can be given again."""
    return shlex.join(["rt_seg", *sys.argv[1:]])


def write_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write ``FOLDER/NAME.json``."""
    write_atomically(folder / f"{name}.json", (json.dumps(content, indent=2) + "\n").encode())


def write_page(folder: Path, name: str, page: str) -> None:
    """Write ``FOLDER/NAME.md``, and show it."""
    write_atomically(folder / f"{name}.md", page.encode())
    print(page)


def write_result(
    folder: Path, name: str, rows: Sequence[dict[str, Any]], to_markdown: Callable[[dict[str, Any]], str]
) -> None:
    """Write what was measured now by this command, as ``FOLDER/NAME.json`` and as the page made of that."""
    content = {"command": command_line(), **environment(), "rows": rows}
    write_json(folder, name, content)
    write_page(folder, name, to_markdown(content))


def page_head(title: str, content: Mapping[str, Any]) -> list[str]:
    """A page's first lines: what it is about, where it was measured, and how."""
    machine = content["machine"]
    return [
        f"# {title}",
        "",
        f"{machine['cpu']}, {machine['cores']} cores; commit {content['commit']}.",
        f"Command: `{content['command']}`.",
    ]


def to_json(
    rows: Sequence[Row],
    networks: Sequence[NetworkCost],
    peaks: Mapping[tuple[str, str], float],
    command: str,
) -> dict[str, Any]:
    """Everything, as JSON's types; the measurements are under `rows`."""
    return {
        "command": command,
        **environment(),
        "networks": [asdict(network) for network in networks],
        "peaks": [
            {"engine": engine, "precision": precision, "gops": round(gops, 1)}
            for (engine, precision), gops in peaks.items()
        ],
        "rows": [asdict(row) for row in rows],
    }


def to_markdown(content: dict[str, Any], chart: str | None = None) -> str:
    """Tables of the networks, of the machine's peaks, and of the times at each network and size.

    Args:
        content: as `to_json` gives it.
        chart: file name of the picture beside the page, if there is one.
    """
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        "# Engines",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {versions};"
        f" commit {content['commit']}.",
        f"Command: `{content['command']}`.",
        "",
        "`eager` is plain PyTorch, float32, contiguous, forward pass alone, of the network as it was trained;"
        " `x eager` is its median over the row's, in the same rounds. GOPS are the operations of the"
        " convolutions a second, 2 for a multiply-add; `of peak` is their share of what the same engine"
        " reaches here in plain 3x3 convolutions with 256 channels. Memory is the peak of a process with this"
        " engine alone. `cores` is how long a byte takes from one core to the next and back, measured before"
        " each round: where it is two or three times the usual, the cores did not share a cache, and every"
        " network of small layers was slower.",
    ]
    if any(_too_lossy(row) for row in content["rows"]):
        lines += ["", f"(!) loses more than {MAX_LOSS} points of mean IoU: this row counts for no claim."]
    if chart is not None:
        lines += ["", f"![Latency against mean IoU]({chart})"]
    lines += ["", *_network_table(content["networks"])]
    if content["peaks"]:
        lines += ["", "| engine | precision | peak [GOPS] |", "|---|---|---|"]
        lines += [f"| {p['engine']} | {p['precision']} | {p['gops']:.0f} |" for p in content["peaks"]]
    groups: dict[tuple[str, int, int, int], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        groups.setdefault((row["model"], row["width"], row["height"], row["batch"]), []).append(row)
    for (model, width, height, batch), rows in groups.items():
        frames = "" if batch == 1 else f", {batch} frames at once"
        lines += ["", f"## {model}, {width}x{height}{frames}", "", f"| {' | '.join(_HEADS)} |"]
        lines += ["|" + "---|" * len(_HEADS), *(_row_line(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _network_table(networks: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | model | GMACs at 640x360 | parameters | fp16 [MiB] | GFLOPs in the paper | mean IoU |",
        "|---|---|---|---|---|---|---|",
    ]
    for network in networks:
        cells = (
            network["network"],
            network["model"],
            f"{network['gmacs']:.2f}",
            f"{network['parameters'] / 1e6:.2f} M",
            f"{network['fp16_mib']:.1f}",
            _number(network["paper_gflops"], 1),
            _number(network["mean_iou"], 3),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _row_line(row: dict[str, Any]) -> str:
    name = f"| {row['engine']} | {row['precision']} | "
    if row["problem"]:
        return f"{name}{row['problem']}" + " |" * (len(_HEADS) - 2)
    loss = _number(row["miou_loss"], 2) + (" (!)" if _too_lossy(row) else "")
    share = "" if row["peak_share"] is None else f"{row['peak_share']:.0%}"
    cells = (
        *(_number(row[key], 1) for key in ("median_ms", "p95_ms", "fps")),
        _number(row["peak_memory_mb"], 0),
        _number(row["eager_ratio"], 2),
        loss,
        _number(row["gops"], 0),
        share,
        _number(row["core_round_trip_ns"], 0),
    )
    return name + " | ".join(cells) + " |"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _too_lossy(row: dict[str, Any]) -> bool:
    return row["miou_loss"] is not None and row["miou_loss"] > MAX_LOSS
