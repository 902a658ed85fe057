"""A benchmark's result for machines (JSON) and for people (Markdown)."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from rt_segmentation.benchmark.engines import Row
from rt_segmentation.files import write_atomically
from rt_segmentation.provenance import Environment, environment
from rt_segmentation.settings import to_plain

T = TypeVar("T")

MAX_LOSS = 0.5
"""Points of mean IoU that an engine may lose for its time to count."""


@dataclass(frozen=True)
class _Column:
    head: str
    of: Callable[[Row], float | None]
    form: str


_LOST = "mIoU lost"
_COLUMNS = (
    _Column("median [ms]", lambda row: row.median_ms, ".1f"),
    _Column("p95 [ms]", lambda row: row.p95_ms, ".1f"),
    _Column("fps", lambda row: row.fps, ".1f"),
    _Column("memory [MB]", lambda row: row.peak_memory_mb, ".0f"),
    _Column("x eager", lambda row: row.eager_ratio, ".2f"),
    _Column(_LOST, lambda row: row.miou_loss, ".2f"),
    _Column("GOPS", lambda row: row.gops, ".0f"),
    _Column("of peak", lambda row: row.peak_share, ".0%"),
    _Column("cores [ns]", lambda row: row.core_round_trip_ns, ".0f"),
)


def command_line() -> str:
    """The command that is running, as it can be given again."""
    spec = sys.modules["__main__"].__spec__
    name = "" if spec is None else spec.name
    program = ["python", "-m", name] if name.startswith("tools.") else ["rt_seg"]
    return shlex.join([*program, *sys.argv[1:]])


@dataclass(frozen=True)
class Result(Generic[T]):
    """What a command measured.

    Attributes:
        rows: the measurements, dataclasses; those with a method `to_plain` have another shape in the file.
        command: that measured, as it can be given again.
        environment: on what.
    """

    rows: Sequence[T]
    command: str = field(default_factory=command_line)
    environment: Environment = field(default_factory=environment)

    def to_plain(self, **more: object) -> dict[str, Any]:
        """As JSON's types; the measurements are under `rows`.

        Args:
            more: keys beside them.
        """
        rows = [row.to_plain() if hasattr(row, "to_plain") else to_plain(row) for row in self.rows]
        return {"command": self.command, **to_plain(self.environment), **to_plain(more), "rows": rows}


def without_nan(plain: dict[str, Any]) -> dict[str, Any]:
    """None for the latency of masks that never came, as JSON has no number for it."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in plain.items()
    }


def write_json(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write ``FOLDER/NAME.json``; the folder is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", _json(content))


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def write_page(folder: Path, name: str, page: str) -> None:
    """Write ``FOLDER/NAME.md``, and show it, also where it cannot be written."""
    try:
        write_atomically(folder / f"{name}.md", page.encode())
    finally:
        print(page)


def write_result(folder: Path, name: str, rows: Sequence[T], page: Callable[[Result[T]], str]) -> None:
    """Write what was measured now by this command, as ``FOLDER/NAME.json`` and as the page made of that.

    Raises:
        OSError: one cannot be written, when the other was and the page was shown.
    """
    result = Result(rows)
    try:
        write_json(folder, name, result.to_plain())
    finally:
        write_page(folder, name, page(result))


class SoFar:
    """A result that is written again after each row, as ``FOLDER/NAME.json`` and ``FOLDER/NAME.md``.

    What cannot be written, as on a full disk, ends no measurement.

    Args:
        folder: of the files; it is made if it is not there.
        name: of the files.
        say: told why a file cannot be written, once for each reason.
    """

    def __init__(self, folder: Path, name: str, say: Callable[[str], None]) -> None:
        self._folder, self._name, self._say = folder, name, say
        self._said = set[str]()
        self._error: OSError | None = None

    def write(self, content: dict[str, Any], page: str) -> None:
        """Write what is known by now."""
        self._error = None
        for kind, data in (("json", _json(content)), ("md", page.encode())):
            try:
                write_atomically(self._folder / f"{self._name}.{kind}", data)
            except OSError as error:
                self._error = self._error or error
                if str(error) not in self._said:
                    self._said.add(str(error))
                    self._say(str(error))

    def check(self) -> None:
        """Let the exit status tell.

        Raises:
            OSError: the last ones could not be written.
        """
        if self._error is not None:
            raise self._error


def page_head(title: str, result: Result[Any]) -> list[str]:
    """A page's first lines: what it is about, where it was measured, and how."""
    machine = result.environment.machine
    return [
        f"# {title}",
        "",
        f"{machine.cpu}, {machine.cores} cores; commit {result.environment.commit}.",
        f"Command: `{result.command}`.",
    ]


def to_markdown(result: Result[Row], more: Sequence[str] = ()) -> str:
    """A table of the times at each model and size; columns that nothing was measured for are left out.

    Args:
        result: of engines.
        more: lines that come before the tables.
    """
    machine = result.environment.machine
    versions = ", ".join(f"{name} {version}" for name, version in result.environment.versions.items())
    lines = [
        "# Engines",
        "",
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb} GB; {versions};"
        f" commit {result.environment.commit}.",
        f"Command: `{result.command}`.",
        "",
        "Medians and 95th percentiles of a frame. Memory is the peak of a process with this engine alone."
        " `eager` is plain PyTorch, float32, contiguous, forward pass alone, of the network as trained;"
        " `x eager` is its median over the row's, in the same rounds. `cores` is how long a byte takes from"
        " one core to the next and back, measured before each round: where it is two or three times the"
        " usual, the cores did not share a cache, and every network of small layers was slower.",
        *more,
    ]
    columns = [column for column in _COLUMNS if any(column.of(row) is not None for row in result.rows)]
    heads = ("engine", "precision", *(column.head for column in columns))
    groups: dict[tuple[str, int, int, int], list[Row]] = {}
    for row in result.rows:
        groups.setdefault((row.model, row.width, row.height, row.batch), []).append(row)
    for (model, width, height, batch), rows in groups.items():
        frames = "" if batch == 1 else f", {batch} frames per batch"
        lines += ["", f"## {model}, {width}x{height}{frames}", "", f"| {' | '.join(heads)} |"]
        lines += ["|" + "---|" * len(heads), *(_row_line(row, columns) for row in rows)]
    return "\n".join(lines) + "\n"


def _row_line(row: Row, columns: Sequence[_Column]) -> str:
    name = f"| {row.engine} | {row.precision} | "
    if row.problem:
        return f"{name}{row.problem} |" + " |" * (len(columns) - 1)
    return name + " | ".join(_cell(row, column) for column in columns) + " |"


def _cell(row: Row, column: _Column) -> str:
    value = column.of(row)
    mark = " (!)" if column.head == _LOST and too_lossy(row) else ""
    return "" if value is None else format(value, column.form) + mark


def too_lossy(row: Row) -> bool:
    """Whether a row loses so much mean IoU that its time counts for no claim."""
    return row.miou_loss is not None and row.miou_loss > MAX_LOSS
