"""What an engine reaches on this machine in layers of plain arithmetic: the yardstick of a network."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.benchmark.engines import WARM_UP_FRAMES, Candidate, Row
from rt_segmentation.benchmark.worker import serve
from rt_segmentation.inference.engines import EngineUnavailable

PEAK_S = 2.0
"""How long the peak of an engine and precision is measured."""

LAYERS, CHANNELS, SIDE_PX = 4, 256, 64
GOPS = LAYERS * 2 * 9 * CHANNELS**2 * SIDE_PX**2 / 1e9
"""1e9 operations of a run: 2 for a multiply-add."""

# So large that a GPU is busy.
_CUDA_BATCH = 16


@dataclass(frozen=True)
class Peak:
    """What an engine reaches in a precision, in 1e9 operations per second."""

    engine: str
    precision: str
    gops: float


def peak_run(engine: str, precision: str, **_: object) -> Callable[[], None]:
    """3x3 convolutions with 256 channels, each with a ReLU, executed as an engine executes networks.

    Raises:
        EngineUnavailable: there is no such measurement for this engine and precision.
    """
    if engine == "openvino":
        return _openvino(precision)
    if engine == "onnxruntime" and precision == "fp32":
        return _onnxruntime()
    if engine in ("torch", "eager"):
        return _torch(precision)
    raise EngineUnavailable(f"the peak of engine '{engine}' in {precision} is not measured")


def _torch_batch() -> int:
    import torch

    return _CUDA_BATCH if torch.cuda.is_available() else 1


def _torch_layers() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()) for _ in range(LAYERS)]
    return nn.Sequential(*layers).eval()


def _torch(precision: str) -> Callable[[], None]:
    import torch

    from rt_segmentation.inference.engines.torch_engine import DTYPES

    cuda = torch.cuda.is_available()
    batch = _torch_batch()
    where: dict[str, Any] = {
        "device": "cuda" if cuda else "cpu",
        "dtype": DTYPES[precision],
        "memory_format": torch.channels_last,
    }
    layers = _torch_layers().to(**where)
    images = torch.rand(batch, CHANNELS, SIDE_PX, SIDE_PX).to(**where)

    def run() -> None:
        with torch.inference_mode():
            layers(images)
        if cuda:
            torch.cuda.synchronize()

    return run


def _onnxruntime() -> Callable[[], None]:
    import onnxruntime
    import torch

    example = torch.rand(1, CHANNELS, SIDE_PX, SIDE_PX)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.onnx"
        torch.onnx.export(_torch_layers(), (example,), str(path), input_names=["images"], dynamo=False)
        session = onnxruntime.InferenceSession(
            str(path), options, providers=onnxruntime.get_available_providers()
        )
    images = example.numpy()
    return lambda: session.run(None, {"images": images})


def _openvino(precision: str) -> Callable[[], None]:
    import openvino
    from openvino import opset13 as ops

    generator = np.random.default_rng(0)

    def quantized(output: Any, low: float, high: float, levels: int) -> Any:
        if precision != "int8":
            return output
        limits = np.float32(low), np.float32(high)
        return ops.fake_quantize(output, *limits, *limits, levels)

    images = ops.parameter([1, CHANNELS, SIDE_PX, SIDE_PX], np.float32)
    out = images
    for _ in range(LAYERS):
        weights = generator.normal(0, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        kernel = quantized(ops.constant(weights), -0.1, 0.1, 255)
        out = ops.convolution(quantized(out, 0.0, 1.0, 256), kernel, [1, 1], [1, 1], [1, 1], [1, 1])
        out = ops.relu(out)
    compiled = openvino.Core().compile_model(
        openvino.Model([out], [images]),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        },
    )
    request = compiled.create_infer_request()
    array = generator.random((1, CHANNELS, SIDE_PX, SIDE_PX), np.float32)
    return lambda: request.infer([array], share_inputs=True)


def measure_peaks(
    candidates: Sequence[tuple[str, str]], seconds: float, report: Callable[[str], None] = lambda _: None
) -> dict[tuple[str, str], float]:
    """The most 1e9 operations per second that engines reach here in plain convolutions (`peak_run`).

    Args:
        candidates: pairs of engine and precision; those that cannot be measured are not in the result.
        seconds: of measuring, for each.
        report: told what happens.
    """
    peaks = {}
    for engine, precision in candidates:
        candidate = Candidate(Row("peak", "peak", 0, 0, engine, precision), module="tools.benchmarks.peak")
        candidate.run(WARM_UP_FRAMES)
        deadline = time.monotonic() + seconds
        while not candidate.row.problem and (not candidate.durations_ms or time.monotonic() < deadline):
            candidate.durations_ms += candidate.run(1)
        if candidate.durations_ms:
            gops = GOPS * (_torch_batch() if engine in ("torch", "eager") else 1)
            peaks[engine, precision] = gops / min(candidate.durations_ms) * 1e3
            report(f"{engine} {precision}: peak {peaks[engine, precision]:.0f} GOPS")
        candidate.close()
    return peaks


def put_beside_peaks(
    rows: Sequence[Row], gmacs: Callable[[Row], float], peaks: Mapping[tuple[str, str], float]
) -> None:
    """Fill in `gops` and `peak_share`.

    Args:
        rows: as timed.
        gmacs: 1e9 multiply-adds of a row's network for one frame.
        peaks: from `measure_peaks`.
    """
    for row in rows:
        if row.median_ms is None:
            continue
        row.gops = round(2 * gmacs(row) * row.batch / row.median_ms * 1e3, 1)
        peak = peaks.get((row.engine, row.precision))
        row.peak_share = None if peak is None else float(f"{row.gops / peak:.3g}")


if __name__ == "__main__":
    sys.exit(serve(peak_run))
