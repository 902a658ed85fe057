"""TensorRT through torch2trt, on NVIDIA's GPUs and Jetsons."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey
from rt_segmentation.inference.deploy import DeployedNetwork, deploy
from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.engines import EngineError, EngineUnavailable
from rt_segmentation.inference.engines.failures import first_line
from rt_segmentation.inference.engines.torch_engine import TorchEngine
from rt_segmentation.inference.engines.torch_runner import CudaRunner, Runner, TorchGraph
from rt_segmentation.inference.parity import Gate, images_in, read_frame, spread
from rt_segmentation.models import ModelManifest

logger = logging.getLogger(__name__)

DLA_VARIABLE = "RT_SEG_DLA_CORE"
"""Number of the deep learning accelerator that an engine is built for; on the GPU without it."""

MAX_CALIBRATION_FRAMES = 100
ENGINE_FILE = "engine.trt"
PROGRESS_INTERVAL_S = 5.0

# What TensorRT below 10 may take for its working memory; from 10 on that is all there is.
_WORKSPACE_BYTES = 1 << 30
_KIND = "tensorrt"


class Torch2TRTEngine(TorchEngine):
    """The deploy graph's network in TensorRT; all around it as CUDA operations on the same stream.

    Args:
        manifest: the model.
        precision: 'fp16' (also for 'auto'), 'fp32' or 'int8'.
        gate: what its labels must reach.
        parallel: of no use here, it works at one batch at a time.
        calibration: frames for int8, uint8 (height, width, 3) RGB of the size that is prepared. Without them
            those in the gate's folder; an engine that is in the cache needs none.

    Raises:
        EngineUnavailable: torch2trt, TensorRT or CUDA is missing, or the precision is not offered.
        EngineError: the variable that names the accelerator is not a number.
        ModelError: the weights are missing, damaged or do not fit the network.
    """

    name = "torch2trt"

    def __init__(
        self,
        manifest: ModelManifest,
        precision: str = "auto",
        gate: Gate | None = None,
        parallel: int = 1,
        calibration: Sequence[np.ndarray] = (),
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        self._dla_core = dla_core()
        if self._dla_core is not None:
            if self.precision == "fp32":
                raise EngineUnavailable("engine 'torch2trt' has no fp32 on a DLA; it has fp16 and int8 there")
            self.device += f", DLA {self._dla_core}"
        self._calibration = calibration
        self._serialized: dict[tuple[int, int, int], str] = {}

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        """See `TorchEngine.offered`; raises EngineUnavailable where a library or the GPU is missing."""
        for package in ("torch2trt", "tensorrt"):
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise EngineUnavailable(
                    f"engine 'torch2trt' needs the Python package '{error.name}'; docs/torch2trt.md says how"
                    " to install it"
                ) from error
            except Exception as error:
                # torch2trt names parts of TensorRT while it is imported, and some are gone in newer versions.
                raise EngineUnavailable(
                    f"engine 'torch2trt': the Python package '{package}' cannot be imported:"
                    f" {first_line(error)}; docs/torch2trt.md says which versions go together"
                ) from error
        if not torch.cuda.is_available():
            raise EngineUnavailable("engine 'torch2trt' needs a CUDA GPU, and PyTorch finds none here")
        return ("fp16", "fp32", "int8")

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `TorchEngine.precisions`."""
        return cls.offered()

    def _versions(self) -> dict[str, str]:
        import tensorrt

        versions = {**super()._versions(), "tensorrt": tensorrt.__version__}
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["torch2trt"] = metadata.version("torch2trt")
        return versions

    def _make_runner(self, batch: int, height: int, width: int, confidence: bool) -> Runner:
        network = deploy(self._network, height, width)
        serialized = self._engine(network, batch, height, width)
        network.body = TensorRTBody(network.body, serialized, self._dla_core)
        manifest = self._manifest
        graph = TorchGraph(network, manifest.mean, manifest.std, torch.float32, torch.contiguous_format)
        # What runs on a DLA cannot be recorded.
        recorded = self._dla_core is None
        return CudaRunner(graph.eval().cuda(), (batch, height, width, 3), confidence, recorded)

    def _engine(self, network: DeployedNetwork, batch: int, height: int, width: int) -> bytes:
        """From the cache, or built now: minutes. Frames that are given are what int8 is calibrated on."""
        key = self._key(batch, height, width)
        key = CacheKey(_KIND, key.identity, key.made_with)
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
        serialized = entry.read(ENGINE_FILE)
        self._serialized[batch, height, width] = hashlib.sha256(serialized).hexdigest()
        return serialized

    def _verdict_key(self, batch: int, height: int, width: int) -> CacheKey:
        """Of this build: another one of the same network has tactics and ranges of its own."""
        key = super()._verdict_key(batch, height, width)
        return replace(key, identity={**key.identity, "engine": self._serialized[batch, height, width]})

    def _build(self, network: DeployedNetwork, batch: int, height: int, width: int) -> bytes:
        import tensorrt
        import torch2trt

        batches = self._calibration_batches(network, batch, height, width)
        images = torch.zeros(batch, *network.padded_shape, device="cuda")
        what = f"{self._manifest.name} at {width}x{height} in {self.precision}"
        logger.info("building the TensorRT engine of %s: minutes, the first time", what)
        started = time.monotonic()
        _register_padding(torch2trt)
        monitor = _progress_monitor(tensorrt, what)
        converted = torch2trt.torch2trt(
            **conversion_arguments(
                tensorrt,
                _Conversion(network.body.cuda(), torch2trt, tensorrt, self.precision, monitor),
                images,
                self.precision,
                self._dla_core,
                [[calibration] for calibration in batches],
            )
        )
        if converted.engine is None:
            raise EngineError(f"TensorRT could not build the engine of {what}; its log says why")
        logger.info("built the TensorRT engine of %s in %.0f s", what, time.monotonic() - started)
        return bytes(converted.engine.serialize())

    def _calibration_batches(
        self, network: DeployedNetwork, batch: int, height: int, width: int
    ) -> list[torch.Tensor]:
        if self.precision != "int8":
            return []
        frames = list(self._calibration)
        if not frames and self._gate.frames is not None:
            files = spread(images_in(self._gate.frames), MAX_CALIBRATION_FRAMES)
            frames = [read_frame(path, height, width) for path in files]
        if not frames:
            raise EngineUnavailable(
                f"model '{self._manifest.name}' has no TensorRT engine in int8 at {width}x{height} here;"
                f" building one needs frames of what it will see: `rt_seg export --model"
                f" {self._manifest.name} --engine torch2trt --precision int8 --calibrate-images FOLDER`"
            )
        graph = TorchGraph(network, self._manifest.mean, self._manifest.std, torch.float32)
        count = max(len(frames) // batch, 1)
        stacked = torch.from_numpy(np.stack([frames[i % len(frames)] for i in range(count * batch)]))
        resized = [network.pad(graph.normalise(images)) for images in torch.split(stacked, batch)]
        # All stay on the GPU: the calibrator passes on addresses and keeps no reference.
        return [images.contiguous().cuda() for images in resized]


class TensorRTBody(Body):
    """A network's body that TensorRT executes.

    Args:
        body: the one that it stands for; how its coarse values are spread is taken from there. Its weights
            are let go.
        serialized: the engine.
        dla: number of the accelerator that the engine was built for, or None.
    """

    def __init__(self, body: Body, serialized: bytes, dla: int | None) -> None:
        super().__init__()
        import tensorrt
        from torch2trt import TRTModule

        self.phases = body.phases
        # Its parameters also hold what torch2trt hung on them while it converted them.
        self._spread = body.to_empty(device="meta").spread
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        if dla is not None:
            runtime.DLA_core = dla
        engine = runtime.deserialize_cuda_engine(serialized)
        if engine is None:
            raise EngineError(
                "TensorRT cannot load the engine from the cache; `rt_seg cache clear` removes it"
            )
        self.module = TRTModule(engine, ["input_0"], ["output_0"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See `Body`."""
        # TRTModule takes the address of a contiguous copy that it does not keep.
        out: torch.Tensor = self.module(images.contiguous())
        return out

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """See `Body.spread`."""
        return self._spread(coarse)


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


def conversion_arguments(
    tensorrt: Any,
    module: nn.Module,
    images: torch.Tensor,
    precision: str,
    dla: int | None,
    calibration: list[list[torch.Tensor]],
) -> dict[str, Any]:
    """The keywords of torch2trt(), which swallows those that it does not know: a test checks them.

    Args:
        tensorrt: the library.
        module: what is converted.
        images: an input of the right shape, on the GPU.
        precision: 'fp32', 'fp16' or 'int8', the last with fp16 where that is faster.
        dla: number of the accelerator; what it cannot run falls back to the GPU.
        calibration: the inputs that int8's ranges come from.
    """
    arguments = {
        "module": module,
        "inputs": [images],
        "log_level": tensorrt.Logger.WARNING,
        "max_workspace_size": _WORKSPACE_BYTES,
        "keep_network": False,
        "fp16_mode": precision != "fp32",
        "int8_mode": precision == "int8",
    }
    if precision == "int8":
        arguments["int8_calib_dataset"] = calibration
    if dla is not None:
        arguments |= {
            "default_device_type": tensorrt.DeviceType.DLA,
            "dla_core": dla,
            "gpu_fallback": True,
        }
    return arguments


class _Conversion(nn.Module):
    """A body on its way through torch2trt, which gives its builder's settings to whoever asks meanwhile."""

    def __init__(self, body: nn.Module, torch2trt: Any, tensorrt: Any, precision: str, monitor: Any) -> None:
        super().__init__()
        self.body = body
        self._torch2trt, self._tensorrt = torch2trt, tensorrt
        self._precision = precision
        self._monitor = monitor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        context = self._torch2trt.get_conversion_context()
        if context is not None and self._monitor is not None:
            context.builder_config.progress_monitor = self._monitor
        if context is not None and self._precision == "fp32":
            # On by default: 10 of 23 bits.
            context.builder_config.clear_flag(self._tensorrt.BuilderFlag.TF32)
        out: torch.Tensor = self.body(images)
        return out


def _progress_monitor(tensorrt: Any, what: str) -> Any:
    """Logs how far a build is; None where TensorRT (below 10) cannot tell."""
    if not hasattr(tensorrt, "IProgressMonitor"):
        return None

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._logged = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() - self._logged >= PROGRESS_INTERVAL_S:
                self._logged = time.monotonic()
                logger.info("%s: %s, step %d of %d", what, phase_name, step + 1, self._steps[phase_name])
            # Whether to go on.
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _register_padding(torch2trt: Any) -> None:
    """A converter of F.pad in the place of torch2trt's, which calls what TensorRT 10 has no longer."""

    @torch2trt.tensorrt_converter("torch.nn.functional.pad")  # type: ignore[untyped-decorator]
    def convert_pad(context: Any) -> None:
        images, (left, right, top, bottom) = context.method_args[:2]
        layer = context.network.add_padding_nd(images._trt, (top, left), (bottom, right))
        context.method_return._trt = layer.get_output(0)
