"""Engines: what executes a model. One file an engine, one protocol."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rt_segmentation.models import ModelManifest

ENGINES: dict[str, str] = {
    "openvino": "rt_segmentation.inference.engines.openvino_engine:OpenVINOEngine",
    "onnxruntime": "rt_segmentation.inference.engines.onnxruntime_engine:ONNXRuntimeEngine",
    "torch": "rt_segmentation.inference.engines.torch_engine:TorchEngine",
}

# The order in which `auto` tries them on a computer without a GPU of NVIDIA's.
AUTO_ORDER = ("openvino", "onnxruntime", "torch")

# There with NVIDIA's driver, on computers and on Jetsons.
_NVIDIA = ("/proc/driver/nvidia/version", "/dev/nvhost-gpu")


class EngineError(RuntimeError):
    """An engine that cannot be built or run here; the message says what is missing or wrong."""


class EngineUnavailable(EngineError):
    """An engine whose library is not installed, or that does not offer what is asked on this machine."""


class Engine(Protocol):
    """Runs one model; built by ``EngineClass(manifest, precision)``.

    Attributes:
        name: as in `ENGINES`.
        precision: really in use: 'fp32', 'fp16', 'bf16' or 'int8'.
        device: in words, for diagnostics.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """Do now what the first call of `infer` with such frames would do: seconds, from a cold cache.

        Raises:
            EngineError: this engine cannot run the model at this size, or gives other labels than torch.
        """
        ...

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Segment a batch.

        Args:
            images: uint8 (N, H, W, 3) RGB, C-contiguous.
            confidence: whether to compute it.

        Returns:
            Class ids uint8 (N, H, W), and the top class's probability x 255, uint8 (N, H, W), or None.

        Raises:
            EngineError: as `prepare`, at the first frames of a size, or the engine failed.
        """
        ...


def build_engine(manifest: ModelManifest, engine: str = "auto", precision: str = "auto") -> Engine:
    """Build an engine for a model.

    With 'auto' the engine may be replaced by the next one at the first frames of a size, when it is compiled
    and its labels are compared with torch's; the log says so.

    Args:
        manifest: the model; its weights are checked.
        engine: a name of `ENGINES`, or 'auto' for the first that works here.
        precision: 'auto' for the engine's own choice, or one that it offers.

    Raises:
        EngineError: the engine is unknown, its library is missing, or it lacks the precision.
        ModelError: the weights are missing, damaged or do not fit the network.
    """
    if engine != "auto" and engine not in ENGINES:
        raise EngineError(f"unknown engine '{engine}'; there are auto, {', '.join(ENGINES)}")

    def build(name: str, chosen: str) -> Engine:
        built: Engine = _engine_class(name)(manifest, chosen)
        return built

    if engine != "auto" and precision != "auto":
        return build(engine, precision)
    from rt_segmentation.inference.engines.fallback import FallbackEngine

    names = auto_order() if engine == "auto" else (engine,)
    if len(names) == 1:
        choices = _engine_class(engine).precisions()
        if len(choices) == 1:
            return build(engine, choices[0])
    return FallbackEngine(_candidates(names, precision), build)


def auto_order() -> tuple[str, ...]:
    """The order for this machine: torch comes first where it has a GPU."""
    if any(Path(path).exists() for path in _NVIDIA):
        try:
            import torch

            if torch.cuda.is_available():
                return ("torch", *(name for name in AUTO_ORDER if name != "torch"))
        except ImportError:
            pass
    return AUTO_ORDER


def _candidates(names: tuple[str, ...], precision: str) -> Iterator[tuple[str, str]]:
    for name in names:
        choices = (precision,)
        if precision == "auto":
            try:
                choices = _engine_class(name).precisions()
            except EngineUnavailable:
                # To build it says what is missing.
                choices = ("fp32",)
        for choice in choices:
            yield name, choice


def _engine_class(name: str) -> Any:
    module_name, class_name = ENGINES[name].split(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        # One of ours is no missing library: an installation that is broken or being replaced.
        if (error.name or "").startswith("rt_segmentation"):
            raise
        raise EngineUnavailable(
            f"engine '{name}' needs the Python package '{error.name}': pip install 'rt_segmentation[{name}]'"
        ) from error
