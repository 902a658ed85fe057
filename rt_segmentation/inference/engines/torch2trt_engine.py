"""TensorRT through torch2trt, on NVIDIA's GPUs and Jetsons."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch

from rt_segmentation.files import spread
from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey
from rt_segmentation.inference.deploy import DeployedNetwork, deploy
from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.engines.interface import (
    CalibrationFrames,
    EngineError,
    EngineUnavailable,
    Runner,
    Shape,
)
from rt_segmentation.inference.engines.pytorch import PyTorchEngine
from rt_segmentation.inference.engines.tensorrt_body import TensorRTBody
from rt_segmentation.inference.engines.torch2trt_conversion import (
    CalibrationBatches,
    Conversion,
    conversion_arguments,
    register_converters,
)
from rt_segmentation.inference.engines.torch_runner import CudaRunner, TorchGraph
from rt_segmentation.inference.options import Options
from rt_segmentation.inference.parity import Gate, images_in, read_frame
from rt_segmentation.models import ModelManifest, model_argument

logger = logging.getLogger(__name__)

DLA_VARIABLE = "RT_SEG_DLA_CORE"
"""Number of the deep learning accelerator that an engine is built for; on the GPU without it."""

MAX_CALIBRATION_FRAMES = 100
ENGINE_FILE = "engine.trt"

# From here on TensorRT lacks what torch2trt needs: precisions by flags, calibrators, EXPLICIT_BATCH.
_TOO_NEW = 11
_KIND = "tensorrt"


class Torch2TRTEngine(PyTorchEngine):
    """The deploy graph's network in TensorRT; all around it as CUDA operations on the same stream.

    Args:
        manifest: the model.
        precision: 'fp16' (also for 'auto'), 'fp32' or 'int8'.
        gate: what its labels must reach.
        parallel: of no use here.
        calibration: frames for int8, uint8 (height, width, 3) RGB of the size that is prepared. Without them
            those in the gate's folder; an engine that is in the cache needs none.

    Raises:
        EngineUnavailable: torch2trt, TensorRT or CUDA is missing, or the precision is not offered.
        EngineError: the variable that names the accelerator is not a number, or TensorRT finds no such one.
        ModelError: the weights are missing, damaged or do not fit the network.
    """

    name = "torch2trt"
    version = 1
    _dla_core: int | None = None

    def __init__(
        self,
        manifest: ModelManifest,
        precision: str,
        gate: Gate | None = None,
        parallel: int = 1,
        calibration: Sequence[np.ndarray] = (),
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        self._dla_core = dla_core()
        if self._dla_core is not None:
            if self.precision == "fp32":
                raise EngineUnavailable("engine 'torch2trt' has no fp32 on a DLA; it has fp16 and int8 there")
            _check_dla(self._dla_core)
        self._calibration = calibration
        # Of the runners that are kept: those with and without confidence share an engine.
        self._networks: weakref.WeakValueDictionary[tuple[int, int, int], DeployedNetwork] = (
            weakref.WeakValueDictionary()
        )

    @property
    def device(self) -> str:
        """The GPU's name, and the accelerator's number."""
        dla = "" if self._dla_core is None else f", DLA {self._dla_core}"
        return f"{torch.cuda.get_device_name()}{dla}"

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `EngineClass.precisions`; raises EngineUnavailable where a library or the GPU is missing."""
        # TensorRT first: its version says why torch2trt cannot be imported.
        version = str(_imported("tensorrt").__version__)
        if int(version.partition(".")[0]) >= _TOO_NEW:
            raise EngineUnavailable(
                f"engine 'torch2trt' needs TensorRT below {_TOO_NEW}, and {version} is installed;"
                " docs/torch2trt.md says which versions go together"
            )
        _imported("torch2trt")
        if not torch.cuda.is_available():
            raise EngineUnavailable("engine 'torch2trt' needs a CUDA GPU, and PyTorch finds none here")
        return ("fp16", "fp32", "int8")

    @classmethod
    def calibrate(
        cls, manifest: ModelManifest, frames: CalibrationFrames, batch: int, height: int, width: int
    ) -> str:
        """See `EngineClass.calibrate`: TensorRT finds ranges for each batch and size, while it builds."""
        chosen, where = frames(height, width)
        engine = cls(manifest, "int8", calibration=chosen)
        with engine._preparing(Shape(batch, height, width, False)):
            engine.source(batch, height, width)
        return (
            f"TensorRT's engine of {manifest.name} at {width}x{height}, batch {batch}: calibrated on"
            f" {len(chosen)} frames of {where}"
        )

    def source(self, batch: int, height: int, width: int) -> DeployedNetwork:
        """See `CompiledEngine.source`: its body is a `TensorRTBody`."""
        network = self._networks.get((batch, height, width))
        if network is None:
            network = deploy(self._network, height, width)
            serialized = self._engine(network, batch, height, width)
            network.body = TensorRTBody(network.body, serialized, self._dla_core)
            self._networks[batch, height, width] = network
        return network

    def compile(self, source: DeployedNetwork, shape: Shape, options: Options) -> Runner:
        """See `CompiledEngine.compile`; it has no options."""
        manifest = self._manifest
        graph = TorchGraph(
            source, manifest.mean, manifest.std, torch.float32, torch.contiguous_format, manifest.temperature
        )
        # What runs on a DLA cannot be recorded.
        recorded = self._dla_core is None
        return CudaRunner(graph.eval().cuda(), (*shape[:3], 3), shape.confidence, recorded)

    def _versions(self) -> dict[str, str]:
        import tensorrt

        versions = {**super()._versions(), "tensorrt": tensorrt.__version__}
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["torch2trt"] = metadata.version("torch2trt")
        return versions

    def _engine(self, network: DeployedNetwork, batch: int, height: int, width: int) -> bytes:
        """From the cache, or built now: minutes. Frames that are given are what int8 is calibrated on."""
        key = replace(self._key(batch, height, width), kind=_KIND)
        calibrated_on = _digest(self._calibration) if self.precision == "int8" else ""

        def fits(entry: CacheEntry | None) -> bool:
            return entry is not None and calibrated_on in ("", entry.data["calibrated_on"])

        entry = cache.find(key)
        if entry is None or not fits(entry):
            with cache.locked(key):
                entry = cache.find_quietly(key)
                if entry is None or not fits(entry):
                    content = self._build(network, batch, height, width)
                    entry = cache.keep(key, {ENGINE_FILE: content}, {"calibrated_on": calibrated_on})
        return entry.read(ENGINE_FILE)

    def _verdict_key(self, source: DeployedNetwork, shape: Shape) -> CacheKey:
        """Of this build: another one of the same network has tactics and ranges of its own."""
        key = super()._verdict_key(source, shape)
        assert isinstance(source.body, TensorRTBody)
        return replace(key, identity={**key.identity, "engine": source.body.sha256})

    def _build(self, network: DeployedNetwork, batch: int, height: int, width: int) -> bytes:
        import tensorrt
        import torch2trt

        batches = self._calibration_batches(network, batch, height, width)
        images = torch.zeros(batch, *network.padded_shape, device="cuda")
        what = f"{self._manifest.name} at {width}x{height} in {self.precision}"
        logger.info("building the TensorRT engine of %s: minutes, the first time", what)
        started = time.monotonic()
        register_converters(torch2trt)
        module = Conversion(network.body.cuda(), torch2trt, tensorrt, self.precision, what)
        converted = torch2trt.torch2trt(
            **conversion_arguments(tensorrt, module, images, self.precision, self._dla_core, batches)
        )
        if batches is not None and batches.error is not None:
            raise EngineError(
                f"the frames that int8 of {what} is calibrated on cannot be given to TensorRT:"
                f" {reason(batches.error)}"
            ) from batches.error
        if converted.engine is None:
            raise EngineError(f"TensorRT could not build the engine of {what}; its log says why")
        logger.info("built the TensorRT engine of %s in %.0f s", what, time.monotonic() - started)
        serialized = converted.engine.serialize()
        if serialized is None:
            raise EngineError(f"TensorRT cannot serialize the engine of {what}; its log says why")
        return bytes(serialized)

    def _calibration_batches(
        self, network: DeployedNetwork, batch: int, height: int, width: int
    ) -> CalibrationBatches | None:
        if self.precision != "int8":
            return None
        frames = self._calibration
        if not len(frames) and self._gate.frames is not None:
            files = spread(images_in(self._gate.frames), MAX_CALIBRATION_FRAMES)
            frames = [read_frame(path, height, width) for path in files]
        if not len(frames):
            raise EngineUnavailable(
                f"model '{self._manifest.name}' has no TensorRT engine in int8 at {width}x{height} here;"
                f" building one needs frames of what it will see: `rt_seg export --model"
                f" {model_argument(self._manifest)} --engine torch2trt --precision int8 --width {width}"
                f" --height {height} --batch {batch} --calibrate-images FOLDER`"
            )
        graph = TorchGraph(
            network,
            self._manifest.mean,
            self._manifest.std,
            torch.float32,
            temperature=self._manifest.temperature,
        )
        return CalibrationBatches(frames, lambda images: network.pad(graph.normalise(images)), batch)


def _imported(package: str) -> Any:
    """A package of NVIDIA's, or EngineUnavailable with the reason."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise EngineUnavailable(
            f"engine 'torch2trt' needs the Python package '{error.name or package}'; docs/torch2trt.md says"
            " how to install it"
        ) from error
    except Exception as error:
        # A shared library is missing, or torch2trt names parts of TensorRT that are not in this one.
        raise EngineUnavailable(
            f"engine 'torch2trt': the Python package '{package}' cannot be imported: {reason(error)};"
            " docs/torch2trt.md says which versions go together"
        ) from error


def _digest(frames: Sequence[np.ndarray]) -> str:
    """Of their pixels; empty without frames."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame.tobytes())
    return digest.hexdigest() if len(frames) else ""


def dla_core() -> int | None:
    """The accelerator that `DLA_VARIABLE` names, or None for the GPU.

    Raises:
        EngineError: it is not a number.
    """
    text = os.environ.get(DLA_VARIABLE, "")
    if text and not text.isdecimal():
        raise EngineError(f"{DLA_VARIABLE} is '{text}', it should be the number of a DLA core, as 0")
    return int(text) if text else None


def _check_dla(core: int) -> None:
    """Raise EngineError where TensorRT finds no accelerator of this number."""
    import tensorrt

    count = int(tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.WARNING)).num_DLA_cores)
    if core >= count:
        there = f"has {count} DLA cores here, counted from 0" if count else "has no DLA core here"
        raise EngineError(
            f"{DLA_VARIABLE} is {core}, and TensorRT {tensorrt.__version__} {there}; docs/jetson.md says"
            " which Jetsons and versions have some"
        )
