"""One candidate of a benchmark in a process of its own, so that its memory is its own.

Reads one JSON object a line from stdin and answers each with one on stdout: ``{"frames": n}`` is answered
with ``{"ms": [n durations]}``, or with ``{"error": why}`` as the last answer; and the end of stdin with
``{"peak_memory_mb": x}``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference.parity import parity_frames
from rt_segmentation.models import find_model

EAGER = "eager"
"""The yardstick: plain eager PyTorch, contiguous, of the undeployed network, forward pass alone, in fp32."""


def make_candidate(
    model: str, engine: str, precision: str, width: int, height: int, batch: int, parallel: int
) -> Callable[[], None]:
    """Something that segments a batch each time it is called.

    Args:
        model: name or manifest.
        engine: `EAGER` is the yardstick.
        precision: of the engine.
        width: of the frame [px].
        height: of the frame [px].
        batch: batch size.
        parallel: how many threads will call it concurrently.

    Raises:
        EngineError, ModelError: it cannot be built here.
    """
    manifest = find_model(model)
    streets = parity_frames(height, width)
    frames = np.resize(streets, (batch, *streets.shape[1:]))
    if engine == EAGER:
        return _eager(manifest, frames, precision)
    from rt_segmentation.inference.engines import build_engine

    built = build_engine(manifest, engine, precision, parallel=parallel)

    def segment() -> None:
        built.infer(frames, False)

    return segment


def _eager(manifest: Any, frames: np.ndarray, precision: str) -> Callable[[], None]:
    import torch

    from rt_segmentation.inference.network import load_network

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if precision == "fp16" else torch.float32
    network = load_network(manifest).to(device, dtype)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255).contiguous().to(device, dtype)

    def forward() -> None:
        with torch.inference_mode():
            network(pixels)
        if device == "cuda":
            torch.cuda.synchronize()

    return forward


def serve(make: Callable[..., Callable[[], None]]) -> int:
    """Serve the parent process; the first line has the arguments of `make`, and what that makes is timed."""
    described = json.loads(sys.stdin.readline())
    try:
        segment = make(**described)
        segment()
    except (ValueError, RuntimeError) as error:
        _answer({"error": str(error)})
        return 0
    _answer({})
    for line in sys.stdin:
        frames = int(json.loads(line)["frames"])
        try:
            durations_ms = time_frames(segment, frames, described["parallel"])
        except (ValueError, RuntimeError, MemoryError) as error:
            _answer({"error": str(error) or type(error).__name__})
            return 0
        _answer({"ms": durations_ms})
    _answer({"peak_memory_mb": _peak_memory_mb()})
    return 0


def time_frames(segment: Callable[[], None], frames: int, parallel: int) -> list[float]:
    """Duration of each frame [ms]; of concurrent frames, the mean time between two that are ready.

    Concurrent frames are a multiple of `parallel`, at least as many as asked: of a last wave that is not full
    some lanes would be idle, and the rate would seem lower than it is.
    """
    if parallel > 1:
        frames += -frames % parallel
        with ThreadPoolExecutor(parallel) as pool:
            started = time.perf_counter()
            for _ in pool.map(lambda _: segment(), range(frames)):
                pass
            return [(time.perf_counter() - started) * 1e3 / frames] * frames
    durations_ms = []
    for _ in range(frames):
        started = time.perf_counter()
        segment()
        durations_ms.append((time.perf_counter() - started) * 1e3)
    return durations_ms


def _peak_memory_mb() -> float:
    # Not ru_maxrss: that begins with what the parent had when it forked.
    status = Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


def _answer(content: dict[str, Any]) -> None:
    # Libraries may print; answers are marked so that the parent finds them.
    print("\x1e" + json.dumps(content), flush=True)


if __name__ == "__main__":
    sys.exit(serve(make_candidate))
