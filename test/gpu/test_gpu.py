"""What only a CUDA device can show: `make test-gpu`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.engines import EngineUnavailable
from rt_segmentation.inference.engines.torch_engine import TorchEngine
from rt_segmentation.inference.engines.torch_runner import CudaRunner, TorchGraph
from rt_segmentation.inference.network import load_network
from rt_segmentation.models import find_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]

MODELS = ("enet", "linknet", "lednet")
GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
TIMING_MINUTES = 1.0

each_model = pytest.mark.parametrize("model", MODELS)
Check = Callable[[Any, str, int], None]


@each_model
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_torch(model: str, precision: str, check: Check) -> None:
    engine = TorchEngine(find_model(model), precision)
    for batch in (1, 8):
        check(engine, model, batch)
    runners = list(engine._runners.values())
    assert runners and all(isinstance(r, CudaRunner) and r._recording is not None for r in runners)


def test_a_recorded_graph_is_what_was_recorded(frames: np.ndarray) -> None:
    """And it takes no more memory, however often it is run, beside another size."""
    manifest = find_model("enet")
    network: Any = deploy(load_network(manifest), *frames.shape[1:3])
    network = network.to(dtype=torch.float16, memory_format=torch.channels_last)
    graph = TorchGraph(network, manifest.mean, manifest.std, torch.float16).eval().cuda()
    shape = (1, frames.shape[1], frames.shape[2], 3)
    recorded, plain = (CudaRunner(graph, shape, True, record) for record in (True, False))
    for index in range(2):
        for first, second in zip(recorded(frames[index : index + 1]), plain(frames[index : index + 1])):
            # cuDNN may have chosen another algorithm for each.
            assert (np.abs(first.astype(int) - second) <= 1).mean() > 0.99
    engine = TorchEngine(manifest, "fp16")
    small = np.ascontiguousarray(frames[:1, ::2, ::2])
    used = []
    for _ in range(3):
        for _ in range(20):
            engine.infer(frames[:1], True)
            engine.infer(small, False)
        used.append(torch.cuda.memory_allocated())
    assert used[0] == used[-1]


@each_model
@pytest.mark.parametrize("provider", GPU_PROVIDERS)
def test_onnxruntime(
    model: str, provider: str, check: Check, seconds_left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    from rt_segmentation.inference.engines import onnxruntime_engine

    if provider not in onnxruntime_engine.working_providers():
        pytest.skip(f"ONNX Runtime has no {provider} here: onnxruntime-gpu and its libraries are needed")
    chosen = (provider, "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime_engine, "working_providers", lambda: chosen)
    for precision in onnxruntime_engine.ONNXRuntimeEngine.precisions():
        check(onnxruntime_engine.ONNXRuntimeEngine(find_model(model), precision), model, 1)


def test_benchmark(out: Path, seconds_left: float) -> None:
    """Eager PyTorch in fp32 and fp16 beside the engines that are here, one frame and batches of eight."""
    from rt_segmentation.inference.engines.choosing import _onnxruntime_has_gpu

    engines = ["torch", *(["onnxruntime"] if _onnxruntime_has_gpu() else [])]
    rows = benchmark(out / "benchmark", engines, [1, 8], seconds_left)
    timed = {(row["model"], row["engine"], row["precision"], row["batch"]) for row in rows}
    for model in MODELS:
        for engine in ("eager", "torch"):
            wanted = {(model, engine, precision, batch) for precision in ("fp16", "fp32") for batch in (1, 8)}
            assert wanted <= timed


@pytest.mark.parametrize(
    ("model", "precision"), [("enet", "fp16"), ("enet", "int8"), ("linknet", "fp16"), ("lednet", "fp16")]
)
def test_torch2trt(model: str, precision: str, frames: np.ndarray, check: Check, seconds_left: float) -> None:
    engine = torch2trt_or_skip()
    calibration = {"calibration": list(frames)} if precision == "int8" else {}
    check(engine(find_model(model), precision, **calibration), model, 1)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("model", MODELS)
def test_tensorrt(model: str, precision: str, check: Check, seconds_left: float) -> None:
    pytest.importorskip("tensorrt")
    from rt_segmentation.inference.engines.tensorrt_engine import TensorRTEngine

    try:
        TensorRTEngine.precisions()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    check(TensorRTEngine(find_model(model), precision), model, 1)


def test_benchmark_of_torch2trt(out: Path, seconds_left: float) -> None:
    """The engines that were built before, with eager PyTorch again beside them."""
    torch2trt_or_skip()
    rows = benchmark(out / "benchmark_torch2trt", ["torch2trt"], [1], seconds_left, "fp16")
    assert {row["model"] for row in rows if row["engine"] == "torch2trt"} == set(MODELS)


def torch2trt_or_skip() -> Any:
    from rt_segmentation.inference.engines.torch2trt_engine import Torch2TRTEngine

    try:
        Torch2TRTEngine.precisions()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    return Torch2TRTEngine


def benchmark(
    folder: Path, engines: list[str], batches: list[int], limit_s: float, *precisions: str
) -> list[dict[str, Any]]:
    """The rows that have times, of `rt_seg benchmark engines`, whose pages are written into a folder."""
    command = [sys.executable, "-m", "rt_segmentation.cli", "benchmark", "engines", "--models", *MODELS]
    command += ["--engines", *engines, "--precisions", *(precisions or ("fp16", "fp32"))]
    command += ["--batches", *map(str, batches), "--compare", "eager", "--sizes", "640x360"]
    command += ["--minutes", str(TIMING_MINUTES), "--out", str(folder)]
    subprocess.run(command, check=True, timeout=limit_s)
    rows = json.loads((folder / "engines.json").read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["median_ms"] is not None]
