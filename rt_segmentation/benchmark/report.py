"""A benchmark's result for machines (JSON) and for people (Markdown, a chart)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.provenance import commit

LIBRARIES = ("torch", "openvino", "onnxruntime", "nncf", "numpy", "opencv-python-headless", "rt_segmentation")


def environment() -> dict[str, Any]:
    """The machine, the versions of the libraries, and the commit, as far as they can be found."""
    return {
        "machine": {
            "cpu": _cpu_model(),
            "cores": _cores(),
            "memory_gb": _memory_gb(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
        "commit": commit(),
    }


def to_json(rows: Sequence[Row], command: str) -> dict[str, Any]:
    """Everything, as JSON's types; the measurements are under `rows`."""
    return {"command": command, **environment(), "rows": [asdict(row) for row in rows]}


def to_markdown(content: dict[str, Any]) -> str:
    """A table for each network and size."""
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        "# Engines",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {versions};"
        f" commit {content['commit']}.",
        f"Command: `{content['command']}`.",
        "`eager` is plain PyTorch, float32, forward pass alone; `x eager` is its median over the row's,"
        " in the same rounds.",
    ]
    groups: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        groups.setdefault((row["network"], row["width"], row["height"]), []).append(row)
    for (network, width, height), rows in groups.items():
        lines += [
            "",
            f"## {network}, {width}x{height}",
            "",
            "| engine | precision | median [ms] | p95 [ms] | fps | memory [MB] | x eager | mIoU lost |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            if row["problem"]:
                lines.append(f"| {row['engine']} | {row['precision']} | {row['problem']} | | | | | |")
                continue
            ratio = "" if row["eager_ratio"] is None else f"{row['eager_ratio']:.2f}"
            loss = "" if row["miou_loss"] is None else f"{row['miou_loss']:.2f}"
            lines.append(
                f"| {row['engine']} | {row['precision']} | {row['median_ms']:.1f} | {row['p95_ms']:.1f} |"
                f" {row['fps']:.1f} | {row['peak_memory_mb']:.0f} | {ratio} | {loss} |"
            )
    return "\n".join(lines) + "\n"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return None
    return round(kib / 2**20, 1)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
