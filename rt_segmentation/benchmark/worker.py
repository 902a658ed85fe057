"""One candidate of a benchmark in a process of its own, so that its memory is its own.

Reads one JSON object a line from stdin and answers each with one on stdout: ``{"frames": n}`` is answered
with ``{"ms": [n durations]}``, and the end of stdin with ``{"peak_memory_mb": x}``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.models import find_model

EAGER = "eager"
"""The yardstick: plain eager PyTorch, float32, contiguous, of the undeployed network, forward pass alone."""


def make_candidate(model: str, engine: str, precision: str, width: int, height: int) -> Callable[[], None]:
    """Something that segments one frame each time it is called.

    Raises:
        EngineError, ModelError: it cannot be built here.
    """
    manifest = find_model(model)
    frame = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    if engine == EAGER:
        return _eager(manifest, frame)
    from rt_segmentation.inference.engines import build_engine

    built = build_engine(manifest, engine, precision)

    def segment() -> None:
        built.infer(frame, False)

    return segment


def _eager(manifest: Any, frame: np.ndarray) -> Callable[[], None]:
    import torch

    from rt_segmentation.inference.engines.torch_engine import load_network

    network = load_network(manifest)
    pixels = torch.from_numpy(frame).permute(0, 3, 1, 2).float().div(255).contiguous()

    def forward() -> None:
        with torch.inference_mode():
            network(pixels)

    return forward


def main() -> int:
    """Serve the parent process; the first line describes the candidate."""
    described = json.loads(sys.stdin.readline())
    try:
        segment = make_candidate(**described)
        segment()
    except (ValueError, RuntimeError) as error:
        _answer({"error": str(error)})
        return 0
    _answer({"ready": True})
    for line in sys.stdin:
        durations_ms = []
        for _ in range(int(json.loads(line)["frames"])):
            started = time.perf_counter()
            segment()
            durations_ms.append((time.perf_counter() - started) * 1e3)
        _answer({"ms": durations_ms})
    _answer({"peak_memory_mb": _peak_memory_mb()})
    return 0


def _peak_memory_mb() -> float:
    # Not ru_maxrss: that begins with what the parent had when it forked.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _answer(content: dict[str, Any]) -> None:
    # Libraries may print; answers are marked so that the parent finds them.
    print("\x1e" + json.dumps(content), flush=True)


if __name__ == "__main__":
    sys.exit(main())
