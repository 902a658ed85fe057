"""Networks x sizes x engines x precisions, timed in interleaved rounds (LinkNet, Table II; ENet, Table 2)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt_segmentation.benchmark.cores import core_round_trip_ns
from rt_segmentation.benchmark.worker import EAGER

WORKER = "rt_segmentation.benchmark.worker"
"""The module of a candidate's process."""

WARM_UP_FRAMES = 3
ROUND_S = 1.0
"""How long a candidate runs before the next one has its turn."""

LAST_S = 5.0
"""So long before its limit the timing ends, so that what was timed is told."""


@dataclass
class Row:
    """One candidate's result.

    Attributes:
        network: the model's network.
        model: name or manifest.
        width, height: of the frame [px].
        engine, precision: what ran it; engine 'eager' is the yardstick.
        median_ms, p95_ms: of a frame, or of a batch of them.
        fps: frames per second at the median.
        peak_memory_mb: of the candidate's process, resident.
        eager_ratio: eager's median over this one's, from the same rounds; None without eager.
        miou_loss: points of mean IoU below torch fp32 on CamVid val; None without the data.
        gops: 1e9 operations per second of the network's convolutions, 2 for a multiply-add, at the median.
        peak_share: of what the same engine and precision reached here in plain convolutions; None without it.
        frames: how many were timed, or how many batches.
        batch: frames that are segmented as one batch.
        core_round_trip_ns: median over its rounds, each measured just before (`cores`); None on one core.
        problem: why there are no numbers, or empty.
    """

    network: str
    model: str
    width: int
    height: int
    engine: str
    precision: str
    median_ms: float | None = None
    p95_ms: float | None = None
    fps: float | None = None
    peak_memory_mb: float | None = None
    eager_ratio: float | None = None
    miou_loss: float | None = None
    gops: float | None = None
    peak_share: float | None = None
    frames: int = 0
    batch: int = 1
    core_round_trip_ns: float | None = None
    problem: str = ""


class Candidate:
    """A process that segments when it is asked to.

    Args:
        row: of the result; what goes wrong is said there.
        parallel: frames that are segmented concurrently.
        module: whose process it is, one that `worker.serve` serves.
        limit_s: after which it is ended, whatever it is doing; None: never.
    """

    def __init__(
        self, row: Row, parallel: int = 1, module: str = WORKER, limit_s: float | None = None
    ) -> None:
        self.row = row
        self._over = False
        self.durations_ms: list[float] = []
        self.round_trips_ns: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._alarm = threading.Timer(max(0.0, limit_s or 0.0), self._end)
        self._alarm.daemon = True
        if limit_s is not None:
            self._alarm.start()
        described = {
            "model": row.model,
            "engine": row.engine,
            "precision": row.precision,
            "width": row.width,
            "height": row.height,
            "batch": row.batch,
            "parallel": parallel,
        }
        self._ask(described)

    def run(self, frames: int) -> list[float]:
        """Durations [ms] of so many, or a few more where they are concurrent.

        None, and a problem in the row, if it fails or its process dies.
        """
        if self.row.problem:
            return []
        durations: list[float] = self._ask({"frames": frames}).get("ms", [])
        return durations

    def close(self) -> None:
        """End the process; its peak memory is in the row then."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if not self.row.problem:
            self.row.peak_memory_mb = self._answer().get("peak_memory_mb")
        self._process.wait()
        self._alarm.cancel()

    def _end(self) -> None:
        self._over = True
        self._process.kill()

    def _ask(self, content: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()
        answer = self._answer()
        self.row.problem = answer.get("error", "")
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("\x1e"):
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
        status = self._process.wait()
        if self._over:
            return {"error": "it was not ready when the time was over"}
        return {"error": f"the candidate's process ended with status {status}"}


@dataclass(frozen=True)
class Group:
    """The candidates of one network and size; they take turns, so that a noisy machine disturbs all alike.

    With `batch` above 1 every candidate gets that many frames as one batch, and a duration is that of the
    batch. With `parallel` above 1 an engine segments that many frames concurrently, and a frame's duration is
    the time by their number: the rate counts, not the latency.
    """

    network: str
    model: str
    width: int
    height: int
    candidates: Sequence[tuple[str, str]] = field(default_factory=tuple)
    parallel: int = 1
    batch: int = 1


def time_group(
    group: Group,
    seconds: float,
    report: Callable[[str], None] = lambda _: None,
    module: str = WORKER,
    limit_s: float | None = None,
) -> list[Row]:
    """Time a group's candidates.

    Args:
        group: what to time; where 'eager' in fp32 is among the candidates, the others get their ratio to it.
        seconds: of timing for the whole group, shared by its candidates, after they are built; each has three
            rounds at least.
        report: told what happens.
        module: whose processes they are; see `Candidate`.
        limit_s: for all of it, with building; a candidate that is not ready by then has no numbers.
    """
    rows = [
        Row(group.network, group.model, group.width, group.height, engine, precision, batch=group.batch)
        for engine, precision in group.candidates
    ]
    _time_in_turns([(row, group.parallel) for row in rows], seconds, report, module, limit_s)
    eager = next((row.median_ms for row in rows if (row.engine, row.precision) == (EAGER, "fp32")), None)
    for row in rows:
        if eager is not None and row.median_ms is not None:
            row.eager_ratio = round(eager / row.median_ms, 3)
    return rows


def time_throughputs(
    row: Row,
    settings: Sequence[tuple[int, int]],
    seconds: float,
    report: Callable[[str], None],
    limit_s: float | None = None,
) -> list[Row]:
    """Time one engine at several numbers of concurrent frames, in turns.

    Args:
        row: the engine's own, at one frame at a time.
        settings: (concurrent batches, frames of each batch).
        seconds: as in `time_group`.
        report: told what happens.
        limit_s: as in `time_group`.

    Returns:
        A row for each setting; `fps` counts frames, and a problem says where there are no numbers.
    """
    rows = [
        Row(row.network, row.model, row.width, row.height, row.engine, row.precision, batch=batch)
        for _, batch in settings
    ]
    _time_in_turns(
        [(row, parallel) for row, (parallel, _) in zip(rows, settings)], seconds, report, WORKER, limit_s
    )
    return rows


def _time_in_turns(
    settings: Sequence[tuple[Row, int]],
    seconds: float,
    report: Callable[[str], None],
    module: str,
    limit_s: float | None,
) -> None:
    """Fill in rows, each with its frames concurrently."""
    candidates = []
    end = math.inf if limit_s is None else time.monotonic() + limit_s
    for row, parallel in settings:
        report(f"{row.network} {row.width}x{row.height} {row.engine} {row.precision}: building")
        candidates.append(
            Candidate(row, parallel, module, None if limit_s is None else end - time.monotonic())
        )
        candidates[-1].run(WARM_UP_FRAMES)
    deadline = time.monotonic() + seconds
    rounds = 0
    while any(not row.problem for row, _ in settings) and (rounds < 3 or time.monotonic() < deadline):
        if rounds and time.monotonic() + LAST_S > end:
            break
        for candidate in candidates:
            round_trip_ns = core_round_trip_ns()
            candidate.round_trips_ns += [] if round_trip_ns is None else [round_trip_ns]
            typical = candidate.durations_ms or candidate.run(1) or [ROUND_S * 1e3]
            frames = max(1, min(200, round(ROUND_S * 1e3 / float(np.median(typical)))))
            candidate.durations_ms += candidate.run(frames)
        rounds += 1
        row = settings[0][0]
        report(f"{row.network} {row.width}x{row.height}: round {rounds}")
    for candidate in candidates:
        candidate.close()
        if candidate.row.problem:
            report(f"{candidate.row.engine} {candidate.row.precision}: {candidate.row.problem}")
        else:
            _summarise(candidate.row, candidate.durations_ms, candidate.round_trips_ns)


def _summarise(row: Row, durations_ms: list[float], round_trips_ns: list[float]) -> None:
    median, p95 = np.percentile(durations_ms, (50, 95))
    row.median_ms, row.p95_ms = round(float(median), 3), round(float(p95), 3)
    row.fps = round(1e3 * row.batch / float(median), 2)
    row.frames = len(durations_ms)
    row.core_round_trip_ns = round(float(np.median(round_trips_ns)), 1) if round_trips_ns else None
