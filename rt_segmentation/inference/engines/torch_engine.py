"""PyTorch on the CPU or on CUDA."""

from __future__ import annotations

import platform
import threading
from typing import Any

import numpy as np
import torch
from torch import nn

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.engines import EngineError, EngineUnavailable
from rt_segmentation.inference.engines.export import model_identity, reference
from rt_segmentation.inference.engines.failures import first_line, preparing
from rt_segmentation.inference.engines.gate import pass_gate
from rt_segmentation.inference.engines.torch_runner import CudaRunner, Runner, TorchGraph, cpu_runner
from rt_segmentation.inference.parity import Gate, agreement
from rt_segmentation.models import ModelError, ModelManifest, compare_shapes, load_weights
from rt_segmentation.networks import build_network

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_network(manifest: ModelManifest) -> nn.Module:
    """Build a manifest's network in eval mode, float32, with its weights.

    Raises:
        ModelError: the weights are missing or damaged, or do not fit; the message says what differs.
    """
    network = build_network(manifest.network, len(manifest.labels().classes), **manifest.options)
    arrays = load_weights(manifest)
    # How many batches a batch norm has seen matters to training only.
    own = {
        k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    problem = compare_shapes(
        own, {key: array.shape for key, array in arrays.items()}, str(manifest.weights_path)
    )
    if problem:
        raise ModelError(problem)
    network.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()}, strict=False)
    return network.eval()


class TorchEngine:
    """The deploy graph in PyTorch, channels last: on CUDA as one CUDA graph, else on all cores of the CPU.

    It does without torch.compile, which needs a compiler on the robot and minutes at the start.

    Args:
        manifest: the model.
        precision: one of `offered()`; 'auto' is fp16 on CUDA and fp32 on the CPU.
        gate: what its labels must reach.
        parallel: of no use here, it works at one batch at a time.

    Raises:
        EngineUnavailable: the precision is not offered here.
        ModelError: the weights are missing, damaged or do not fit the network.
    """

    name = "torch"
    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        manifest: ModelManifest,
        precision: str = "auto",
        gate: Gate | None = None,
        parallel: int = 1,
    ) -> None:
        cuda = torch.cuda.is_available()
        offered = self.offered()
        precision = offered[0] if precision == "auto" else precision
        if precision not in offered:
            where = "CUDA" if cuda else "the CPU"
            raise EngineUnavailable(
                f"engine '{self.name}' has no precision '{precision}' on {where}; it has {', '.join(offered)}"
            )
        self.precision = precision
        self.device = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU"
        self._cuda = cuda
        self._manifest = manifest
        self._gate = gate or Gate()
        self._network = load_network(manifest)
        self._runners: dict[tuple[int, int, int, bool], Runner] = {}
        self._at_work = threading.Lock()
        self._making = threading.Lock()

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        """What can be asked for on this machine, the first choice first."""
        return ("fp16", "bf16", "fp32") if torch.cuda.is_available() else ("fp32", "bf16")

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """What 'auto' may take on this machine.

        On CPUs bf16 is not among it: PyTorch's was not faster than its fp32 on a CPU with AVX512-BF16.
        """
        return ("fp16", "fp32") if torch.cuda.is_available() else ("fp32",)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        self._runner(batch, height, width, confidence)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        batch, height, width = images.shape[:3]
        runner = self._runner(batch, height, width, confidence)
        labels, *rest = self._run(runner, images)
        return labels, rest[0] if rest else None

    def release(self, height: int, width: int) -> None:
        """See `Engine.release`."""
        for key in [key for key in list(self._runners) if key[1:3] == (height, width)]:
            self._runners.pop(key, None)

    def _runner(self, batch: int, height: int, width: int, confidence: bool) -> Runner:
        key = (batch, height, width, confidence)
        runner = self._runners.get(key)
        if runner is not None:
            return runner
        # Not the lock of the frames: those of sizes that are ready go on meanwhile.
        with self._making, preparing(self.name, self.precision, height, width):
            runner = self._runners.get(key)
            if runner is None:
                runner = self._make_runner(*key)
                self._run(runner, np.zeros((batch, height, width, 3), np.uint8))
                # In fp32 on the CPU it is what others are compared with, but for folded weights' rounding.
                if self._cuda or self.precision != "fp32":
                    self._pass_gate(runner, batch, height, width)
                self._runners[key] = runner
            return runner

    def _run(self, runner: Runner, images: np.ndarray) -> list[np.ndarray]:
        with self._at_work:
            try:
                return runner(images)
            except (RuntimeError, ValueError) as error:
                raise EngineError(
                    f"engine '{self.name}' in {self.precision} failed: {first_line(error)}"
                ) from error

    def _make_runner(self, batch: int, height: int, width: int, confidence: bool) -> Runner:
        dtype = DTYPES[self.precision]
        network = deploy(self._network, height, width).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        graph = TorchGraph(network, self._manifest.mean, self._manifest.std, dtype).eval()
        if not self._cuda:
            return cpu_runner(graph, confidence)
        return CudaRunner(graph.cuda(), (batch, height, width, 3), confidence)

    def _versions(self) -> dict[str, str]:
        """Of the libraries whose change may change results."""
        return {"torch": torch.__version__}

    def _key(self, batch: int, height: int, width: int) -> CacheKey:
        identity: dict[str, Any] = {
            **model_identity(self._manifest),
            "batch": batch,
            "height": height,
            "width": width,
            "precision": self.precision,
            "device": self.device,
            **({"gpu": _gpu()} if self._cuda else {}),
        }
        return CacheKey(self.name, identity, {"code": cache.code_digest(), **self._versions()})

    def _pass_gate(self, runner: Runner, batch: int, height: int, width: int) -> None:
        def measure() -> float:
            frames, labels = reference(self._manifest, height, width, self._gate)
            return agreement(lambda images: self._run(runner, images)[0], frames, labels, batch)

        pass_gate(self._verdict_key(batch, height, width), self.precision, self._gate, measure)

    def _verdict_key(self, batch: int, height: int, width: int) -> CacheKey:
        """Of what the gate judges."""
        return self._key(batch, height, width)


def _gpu() -> dict[str, Any]:
    """What tells GPUs of one name apart, as the Orins: capability, multiprocessors, memory."""
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_gib": round(found.total_memory / (1 << 30)),
    }
