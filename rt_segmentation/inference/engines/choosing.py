"""Which engine runs a model: by its name, or the best that this machine has."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rt_segmentation.inference import shipped, tuned, tuning
from rt_segmentation.inference.engines.fallback import Candidate, FallbackEngine
from rt_segmentation.inference.engines.interface import (
    CalibrationFrames,
    Engine,
    EngineClass,
    EngineError,
    EngineUnavailable,
)
from rt_segmentation.inference.options import INSTRUCTIONS, limits_instructions
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest

ENGINES: dict[str, str] = {
    "openvino": "rt_segmentation.inference.engines.openvino_engine:OpenVINOEngine",
    "onnxruntime": "rt_segmentation.inference.engines.onnxruntime_engine:ONNXRuntimeEngine",
    "torch": "rt_segmentation.inference.engines.torch_engine:TorchEngine",
    "torch2trt": "rt_segmentation.inference.engines.torch2trt_engine:Torch2TRTEngine",
    "tensorrt": "rt_segmentation.inference.engines.tensorrt_engine:TensorRTEngine",
}

# The order in which `auto` tries those that are there, without measurements of this machine (`tuning`).
CPU_ORDER = ("openvino", "onnxruntime", "torch")
# A Jetson has TensorRT in any case: where PyTorch has the GPU, it runs without minutes of building first.
GPU_ORDER = ("torch2trt", "torch", "tensorrt", "onnxruntime", "openvino")

# What finds int8's ranges where no engine is named: its ranges lie with the model and serve every size.
_CALIBRATED = "openvino"

# Why these run no ONNX graph.
_OF_PYTORCH = {
    "torch": "it executes modules of PyTorch",
    "torch2trt": "it converts modules of PyTorch while they are called",
}

# Only names that PyPI has: what it lacks, anybody could put there.
_INSTALL = {"torch2trt": "see docs/torch2trt.md"}

# There with NVIDIA's driver, on computers and on Jetsons.
_NVIDIA = ("/proc/driver/nvidia/version", "/dev/nvhost-gpu")


def build_engine(
    manifest: ModelManifest,
    engine: str = "auto",
    precision: str = "auto",
    gate: Gate | None = None,
    parallel: int = 1,
) -> Engine:
    """Build an engine for a model.

    With 'auto' the engine may become another one at the first frames of a size: the fastest that
    `rt_seg tune` measured for it on this machine, or the next one where an engine fails or its labels are
    too far from torch's. The log says what is chosen and why, `Engine.warnings` what was refused.

    Args:
        manifest: the model; its weights are checked.
        engine: a name of `ENGINES`, or 'auto'.
        precision: 'auto', or one that the engine offers. Without measurements 'auto' means int8
            only where it is the fastest and costs the model next to nothing (`shipped.fastest`).
        gate: what its labels must reach; the default is `Gate()`.
        parallel: batches that threads will have it work on concurrently. With 1 a CPU's cores share each of
            them, for the lowest latency; with more each has fewer cores and none waits for another, for the
            highest rate. OpenVINO and ONNX Runtime can do so.

    Raises:
        EngineError: the engine is unknown, its library is missing, or it lacks the precision; or `parallel`
            is less than 1.
        ModelError: the weights are missing, damaged or do not fit the network.
    """
    if parallel < 1:
        raise EngineError(f"parallel is {parallel}, it must be at least 1; `plan_engine` chooses it")
    _check_name(engine)
    _check_can_run(manifest, engine)
    if engine in ("auto", "openvino"):
        _limit_instructions(manifest)
    gate = gate or Gate()

    def build(name: str, chosen: str) -> Engine:
        return _engine_class(name)(manifest, chosen, gate, parallel)

    if engine != "auto" and precision != "auto":
        return build(engine, precision)

    names = auto_order() if engine == "auto" else (engine,)
    names = tuple(name for name in names if manifest.onnx is None or name not in _OF_PYTORCH)
    if len(names) == 1 and len(choices := _engine_class(engine).precisions()) == 1:
        return build(engine, choices[0])

    def measured(height: int, width: int) -> list[Candidate]:
        record = tuning.recall(manifest, height, width)
        return [
            Candidate(t.engine, t.precision, record.describe(t))
            for t in record.timings
            if t.engine in names and precision in ("auto", t.precision)
        ]

    return FallbackEngine(lambda: _defaults(manifest, names, precision), build, measured)


def calibrate(
    manifest: ModelManifest,
    engine: str,
    frames: CalibrationFrames,
    batch: int,
    height: int,
    width: int,
) -> str:
    """Find int8's ranges for an engine of `ENGINES`, or 'auto'; see `EngineClass.calibrate` for the rest."""
    _check_name(engine)
    _check_can_run(manifest, engine)
    found = _engine_class(_CALIBRATED if engine == "auto" else engine)
    return found.calibrate(manifest, frames, batch, height, width)


def auto_order() -> tuple[str, ...]:
    """The default order for this machine."""
    order: tuple[str, ...] = CPU_ORDER
    if any(Path(path).exists() for path in _NVIDIA):
        if _torch_has_cuda():
            order = GPU_ORDER
        else:
            without_torch = [("tensorrt", _tensorrt_has_gpu), ("onnxruntime", _onnxruntime_has_gpu)]
            first = tuple(name for name, has_gpu in without_torch if has_gpu())
            order = (*first, *(name for name in CPU_ORDER if name not in first))
    return tuple(name for name in order if name in ENGINES)


def installed() -> list[tuple[str, str]]:
    """All engines with their precisions that this machine offers."""
    found = []
    for name in ENGINES:
        with contextlib.suppress(EngineUnavailable):
            found += [(name, precision) for precision in _engine_class(name).precisions()]
    return found


def offered(engine: str) -> tuple[str, ...]:
    """All precisions of an engine of `ENGINES` that can be asked for by name here.

    Raises:
        EngineUnavailable: what it needs is missing.
    """
    found = _engine_class(engine)
    return tuple(getattr(found, "offered", found.precisions)())


def works_concurrently(engine: str) -> bool:
    """Whether an engine of `ENGINES` works on several batches concurrently where it is built for it."""
    return getattr(_engine_class(engine), "concurrent", False)


def _limit_instructions(manifest: ModelManifest) -> None:
    """Set the instruction set that `rt_seg tune` found best, where the library has not been at work yet."""
    if not limits_instructions() and "openvino" not in sys.modules:
        isa = tuned.isa_for(manifest)
        if isa:
            os.environ[INSTRUCTIONS] = isa


def _check_name(engine: str) -> None:
    if engine != "auto" and engine not in ENGINES:
        raise EngineError(f"unknown engine {engine!r}; there are auto, {', '.join(ENGINES)}")


def _check_can_run(manifest: ModelManifest, engine: str) -> None:
    if manifest.onnx is not None and engine in _OF_PYTORCH:
        raise EngineUnavailable(
            f"engine '{engine}' cannot run model '{manifest.name}': {_OF_PYTORCH[engine]}, and this model is"
            " an ONNX graph; onnxruntime, openvino and tensorrt run it"
        )


def _torch_has_cuda() -> bool:
    try:
        import torch
    except (ImportError, OSError):
        return False
    return torch.cuda.is_available()


def _onnxruntime_has_gpu() -> bool:
    try:
        from rt_segmentation.inference.engines.onnxruntime_engine import uses_gpu
    except (ImportError, OSError):
        return False
    return uses_gpu()


def _tensorrt_has_gpu() -> bool:
    try:
        return bool(_engine_class("tensorrt").precisions())
    except EngineUnavailable:
        return False


def _defaults(manifest: ModelManifest, names: tuple[str, ...], precision: str) -> Iterator[Candidate]:
    fastest = shipped.fastest(manifest)
    for name in names:
        for engine, chosen, why in fastest:
            if engine == name and precision in ("auto", chosen):
                yield Candidate(name, chosen, why)
        choices: tuple[str, ...] = (precision,)
        if precision == "auto":
            try:
                choices = tuple(p for p in _engine_class(name).precisions() if p != "int8")
            except EngineUnavailable:
                # To build it says what is missing.
                choices = ("fp32",)
        for choice in choices:
            yield Candidate(name, choice)


def _engine_class(name: str) -> EngineClass:
    module_name, class_name = ENGINES[name].split(":")
    try:
        found: EngineClass = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        if error.name is None:
            # The package is there, and a shared library that it needs is not.
            raise EngineUnavailable(f"engine '{name}' cannot be used: {error}") from error
        # One of ours is no missing library: an installation that is broken or being replaced.
        if (error.name or "").startswith("rt_segmentation"):
            raise
        if not isinstance(error, ModuleNotFoundError):
            raise EngineUnavailable(
                f"engine '{name}' needs another version of the Python package '{error.name}': {error}"
            ) from error
        install = _INSTALL.get(name, f"pip install {name}")
        raise EngineUnavailable(
            f"engine '{name}' needs the Python package '{error.name}': {install}"
        ) from error
    except OSError as error:
        # PyTorch for CUDA without CUDA's libraries.
        raise EngineUnavailable(f"engine '{name}' cannot be used: a library is missing: {error}") from error
    return found
