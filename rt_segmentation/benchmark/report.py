"""A benchmark's result for machines (JSON) and for people (Markdown)."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.files import write_atomically
from rt_segmentation.provenance import environment

MAX_LOSS = 0.5
"""Points of mean IoU that an engine may lose for its time to count."""


@dataclass(frozen=True)
class _Column:
    head: str
    key: str
    form: str


_COLUMNS = (
    _Column("median [ms]", "median_ms", ".1f"),
    _Column("p95 [ms]", "p95_ms", ".1f"),
    _Column("fps", "fps", ".1f"),
    _Column("memory [MB]", "peak_memory_mb", ".0f"),
    _Column("x eager", "eager_ratio", ".2f"),
    _Column("mIoU lost", "miou_loss", ".2f"),
    _Column("GOPS", "gops", ".0f"),
    _Column("of peak", "peak_share", ".0%"),
    _Column("cores [ns]", "core_round_trip_ns", ".0f"),
)


def command_line() -> str:
    """The command that is running, as it can be given again."""
    spec = sys.modules["__main__"].__spec__
    name = "" if spec is None else spec.name
    program = ["python", "-m", name] if name.startswith("tools.") else ["rt_seg"]
    return shlex.join([*program, *sys.argv[1:]])


def write_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write ``FOLDER/NAME.json``; the folder is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
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


def to_json(rows: Sequence[Row], **more: Any) -> dict[str, Any]:
    """What was measured now by this command, as JSON's types; the measurements are under `rows`."""
    return {"command": command_line(), **environment(), **more, "rows": [asdict(row) for row in rows]}


def to_markdown(content: dict[str, Any], more: Sequence[str] = ()) -> str:
    """A table of the times at each model and size; columns that nothing was measured for are left out.

    Args:
        content: as `to_json` gives it.
        more: lines that come before the tables.
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
        "Medians and 95th percentiles of a frame. Memory is the peak of a process with this engine alone."
        " `eager` is plain PyTorch, float32, contiguous, forward pass alone, of the network as trained;"
        " `x eager` is its median over the row's, in the same rounds. `cores` is how long a byte takes from"
        " one core to the next and back, measured before each round: where it is two or three times the"
        " usual, the cores did not share a cache, and every network of small layers was slower.",
        *more,
    ]
    columns = [column for column in _COLUMNS if any(row[column.key] is not None for row in content["rows"])]
    heads = ("engine", "precision", *(column.head for column in columns))
    groups: dict[tuple[str, int, int, int], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        groups.setdefault((row["model"], row["width"], row["height"], row["batch"]), []).append(row)
    for (model, width, height, batch), rows in groups.items():
        frames = "" if batch == 1 else f", {batch} frames per batch"
        lines += ["", f"## {model}, {width}x{height}{frames}", "", f"| {' | '.join(heads)} |"]
        lines += ["|" + "---|" * len(heads), *(_row_line(row, columns) for row in rows)]
    return "\n".join(lines) + "\n"


def _row_line(row: dict[str, Any], columns: Sequence[_Column]) -> str:
    name = f"| {row['engine']} | {row['precision']} | "
    if row["problem"]:
        return f"{name}{row['problem']} |" + " |" * (len(columns) - 1)
    return name + " | ".join(_cell(row, column) for column in columns) + " |"


def _cell(row: dict[str, Any], column: _Column) -> str:
    value = row[column.key]
    mark = " (!)" if column.key == "miou_loss" and too_lossy(row) else ""
    return "" if value is None else format(value, column.form) + mark


def too_lossy(row: dict[str, Any]) -> bool:
    """Whether a row loses so much mean IoU that its time counts for no claim."""
    return row["miou_loss"] is not None and row["miou_loss"] > MAX_LOSS
