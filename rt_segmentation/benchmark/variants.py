"""Engines set in different ways, timed in a process of their own: instruction sets are of a process.

Run as a program it reads one JSON object a line from stdin and answers each with one on stdout.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from rt_segmentation.benchmark.worker import time_frames
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.inference.options import INSTRUCTIONS, PLAIN, Options


class OutOfTime(RtSegmentationError, TimeoutError):
    """The time that a search was given is over."""


class VariantError(RtSegmentationError, RuntimeError):
    """A variant that does not work here; the message says why."""


@dataclass(frozen=True)
class Variant:
    """An engine in a precision, and how it is set; `parallel` are concurrent batches."""

    engine: str
    precision: str
    parallel: int = 1
    options: Options = PLAIN

    def describe(self) -> str:
        """In words."""
        several = f", {self.parallel} concurrently" if self.parallel > 1 else ""
        return f"{self.engine} {self.precision}{several}: {self.options.describe()}"


@dataclass(frozen=True)
class Group:
    """Layers of one shape: their share of the time of all, and what computes them."""

    name: str
    share: float
    kernels: tuple[str, ...]


class Bench:
    """Makes and times variants of a model, in one process for each instruction set.

    Args:
        model: name or manifest.
        batch: frames of a batch.
        height: of the frames [px].
        width: of the frames [px].
        deadline: when the time is over, by `time.monotonic`.
    """

    def __init__(self, model: str, batch: int, height: int, width: int, deadline: float) -> None:
        self._described = {"model": model, "batch": batch, "height": height, "width": width}
        self._deadline = deadline
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._unread: dict[str, bytes] = {}
        self._made: set[Variant] = set()

    def remaining_s(self) -> float:
        """What is left."""
        return self._deadline - time.monotonic()

    def make(self, variant: Variant) -> tuple[str, ...]:
        """Make a variant ready; returns what computes each convolution, where the engine tells.

        Raises:
            VariantError: it does not work here.
            OutOfTime: the time is over.
        """
        kernels = tuple(self._ask(variant, "make")["kernels"])
        self._made.add(variant)
        return kernels

    def time(self, variant: Variant, frames: int) -> list[float]:
        """Duration of each of so many batches [ms], with concurrent ones of full waves; raises as `make`."""
        if variant not in self._made:
            # Another variant has ended the process that had both.
            self.make(variant)
        return list(self._ask(variant, "time", frames=frames)["ms"])

    def groups(self, variant: Variant) -> list[Group]:
        """Groups of its convolutions, the longest first; raises as `make`."""
        found = self._ask(variant, "groups")["groups"]
        return [Group(one["name"], one["share"], tuple(one["kernels"])) for one in found]

    def judge(self, variant: Variant) -> None:
        """Let it pass the gate; raises as `make`."""
        self._ask(variant, "judge")

    def drop(self, variant: Variant) -> None:
        """Let go what was made, if its process is still there."""
        if variant in self._made:
            self._made.remove(variant)
            with suppress(VariantError):
                self._ask(variant, "drop")

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.kill()
            process.communicate()
        self._processes.clear()

    def _ask(self, variant: Variant, action: str, **more: Any) -> dict[str, Any]:
        if self.remaining_s() <= 0:
            raise OutOfTime("the time is over")
        isa = variant.options.isa
        process = self._processes.get(isa) or self._start(isa)
        described = {
            **self._described,
            "engine": variant.engine,
            "precision": variant.precision,
            "parallel": variant.parallel,
            "options": variant.options.to_json(),
        }
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps({"action": action, "variant": described, **more}).encode() + b"\n")
            process.stdin.flush()
        answer = self._answer(isa, process)
        if "error" in answer:
            raise VariantError(answer["error"])
        return answer

    def _start(self, isa: str) -> subprocess.Popen[bytes]:
        self._processes[isa] = process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # An empty one is oneDNN's default, and keeps what was tuned earlier away.
            env={INSTRUCTIONS: "", **os.environ, **({INSTRUCTIONS: isa} if isa else {})},
        )
        self._unread[isa] = b""
        return process

    def _answer(self, isa: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        while True:
            line, newline, rest = self._unread[isa].partition(b"\n")
            if newline:
                self._unread[isa] = rest
                # Libraries may print; answers are marked.
                if line.startswith(b"\x1e"):
                    answer: dict[str, Any] = json.loads(line[1:])
                    return answer
                continue
            if not select.select([process.stdout], [], [], max(0, self.remaining_s()))[0]:
                self._end(isa, OutOfTime("the time is over"))
            content = os.read(process.stdout.fileno(), 1 << 16)
            if not content:
                self._end(isa, VariantError(f"its process ended with status {process.wait()}"))
            self._unread[isa] += content

    def _end(self, isa: str, error: Exception) -> NoReturn:
        process = self._processes.pop(isa)
        self._made = {variant for variant in self._made if variant.options.isa != isa}
        process.kill()
        process.communicate()
        raise error


class _Made:
    """Variants of this process."""

    def __init__(self) -> None:
        self._runs: dict[str, Callable[[], None]] = {}

    def answer(self, action: str, described: dict[str, Any], frames: int = 0) -> dict[str, Any]:
        name = json.dumps(described, sort_keys=True)
        if action == "make":
            self._runs[name], kernels = _make(**described)
            return {"kernels": kernels}
        if action == "time":
            return {"ms": time_frames(self._runs[name], frames, described["parallel"])}
        if action == "drop":
            self._runs.pop(name, None)
            return {}
        if action == "judge":
            engine, shape, options = _engine(**described)
            engine.judged(shape, options)
            return {}
        return {"groups": _groups(**described)}


def _engine(
    model: str,
    batch: int,
    height: int,
    width: int,
    engine: str,
    precision: str,
    parallel: int,
    options: dict[str, Any],
) -> tuple[Any, Any, Options]:
    from rt_segmentation.inference.engines import build_engine
    from rt_segmentation.inference.engines.interface import Shape
    from rt_segmentation.models import find_model

    built = build_engine(find_model(model), engine, precision, parallel=parallel)
    return built, Shape(batch, height, width, False), Options.from_json(options)


def _make(**described: Any) -> tuple[Callable[[], None], list[str]]:
    from rt_segmentation.inference.parity import parity_frames

    engine, shape, options = _engine(**described)
    run = engine.trial(shape, options)
    streets = parity_frames(shape.height, shape.width)
    frames = np.resize(streets, (shape.batch, *streets.shape[1:]))
    kernels = getattr(run, "kernels", None)
    return lambda: run(frames), [] if kernels is None else kernels()


def _groups(**described: Any) -> list[dict[str, Any]]:
    engine, shape, options = _engine(**described)
    if not hasattr(engine, "time_groups"):
        return []
    groups = engine.time_groups(shape, options)
    total_ms = sum(group.ms for group in groups) or 1.0
    return [{"name": g.name, "share": g.ms / total_ms, "kernels": g.kernels} for g in groups]


def serve() -> int:
    """Serve the parent process until stdin ends."""
    made = _Made()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = made.answer(asked["action"], asked["variant"], asked.get("frames", 0))
        except (KeyError, ValueError, RuntimeError, MemoryError) as error:
            answer = {"error": str(error) or type(error).__name__}
        print("\x1e" + json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve())
