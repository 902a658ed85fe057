"""PyTorch on the CPU or on CUDA."""

from __future__ import annotations

import platform

import torch

from rt_segmentation.inference.deploy import DeployedNetwork, deploy
from rt_segmentation.inference.engines.interface import Runner, Shape
from rt_segmentation.inference.engines.pytorch import PyTorchEngine
from rt_segmentation.inference.engines.torch_runner import CudaRunner, TorchGraph, cpu_runner
from rt_segmentation.inference.options import Options

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine(PyTorchEngine):
    """The deploy graph in PyTorch, channels last: on CUDA as one CUDA graph, else on all cores of the CPU.

    It does without torch.compile, which needs a compiler on the robot and minutes at the start.
    """

    name = "torch"
    version = 1

    @property
    def device(self) -> str:
        """The GPU's name, or the CPU's architecture."""
        return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"

    @classmethod
    def offered(cls) -> tuple[str, ...]:
        """See `CompiledEngine.offered`."""
        return ("fp16", "bf16", "fp32") if torch.cuda.is_available() else ("fp32", "bf16")

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """See `EngineClass.precisions`.

        On CPUs bf16 is not among it: PyTorch's was not faster than its fp32 on a CPU with AVX512-BF16.
        """
        return ("fp16", "fp32") if torch.cuda.is_available() else ("fp32",)

    def source(self, batch: int, height: int, width: int) -> DeployedNetwork:
        """See `CompiledEngine.source`."""
        network: DeployedNetwork = deploy(self._network, height, width).to(  # type: ignore[call-overload]
            dtype=DTYPES[self.precision], memory_format=torch.channels_last
        )
        return network

    def compile(self, source: DeployedNetwork, shape: Shape, options: Options) -> Runner:
        """See `CompiledEngine.compile`."""
        contiguous = options.layout == "contiguous"
        layout = torch.contiguous_format if contiguous else torch.channels_last
        graph = TorchGraph(
            source.to(memory_format=layout),  # type: ignore[call-overload]
            self._manifest.mean,
            self._manifest.std,
            DTYPES[self.precision],
            memory_format=layout,
            temperature=self._manifest.temperature,
        ).eval()
        if not torch.cuda.is_available():
            return cpu_runner(graph, shape.confidence, options.threads)
        return CudaRunner(graph.cuda(), (*shape[:3], 3), shape.confidence)

    def _judged(self) -> bool:
        # In fp32 on the CPU it is what others are compared with, but for folded weights' rounding.
        return torch.cuda.is_available() or self.precision != "fp32"
