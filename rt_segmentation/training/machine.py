"""The machine a training runs on: its processes, its arithmetic, and what to say of it afterwards."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from rt_segmentation import cpu
from rt_segmentation.provenance import commit, machine, versions
from rt_segmentation.training.data import Share
from rt_segmentation.training.errors import TrainingError

LIGHTNING_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
PACKAGES = ("torch", "lightning", "numpy", "opencv-python-headless", "safetensors")


@dataclass(frozen=True)
class Machine:
    """What a training runs on.

    Attributes:
        gpu: on CUDA; otherwise on the CPU.
        precision: of the steps, 'fp32', 'bf16' or 'fp16' (mixed).
        share: which of the training's processes this is.
        local_processes: of the training, on this machine.
        workers: processes that load and augment, of each process.
    """

    gpu: bool
    precision: str
    share: Share
    local_processes: int
    workers: int

    @classmethod
    def here(cls, precision: str = "auto", workers: int | None = None) -> Machine:
        """This machine, and the processes that torchrun or SLURM started.

        Args:
            precision: 'auto' is bf16 where the hardware computes in it, and fp32 elsewhere.
            workers: by default as many as there are cores left, at most 8.

        Raises:
            TrainingError: the precision is unknown, or fp16 on a CPU.
        """
        gpu = torch.cuda.is_available()
        if precision == "auto":
            precision = "bf16" if _has_bf16(gpu) else "fp32"
        if precision not in LIGHTNING_PRECISIONS:
            raise TrainingError(f"precision '{precision}' is unknown; there are auto, fp32, bf16, fp16")
        if precision == "fp16" and not gpu:
            raise TrainingError("precision fp16 needs a CUDA GPU; on a CPU take auto, bf16 or fp32")
        share, local = _processes()
        if workers is None:
            workers = max(1, min(8, (os.cpu_count() or 1) // local - 1))
        return cls(gpu, precision, share, local, workers)

    def trainer(self, **options: Any) -> lightning.Trainer:
        """A trainer for the training's processes; without its own samplers, summaries and bars."""
        several = self.share.world > 1
        return lightning.Trainer(
            accelerator="gpu" if self.gpu else "cpu",
            devices=self.local_processes,
            num_nodes=self.share.world // self.local_processes,
            # A static graph may have parameters without gradients, as the classifier of LEDNet's encoder.
            strategy=DDPStrategy(static_graph=True) if several else "auto",
            # Batch norm sees the whole batch; torch has this for GPUs alone.
            sync_batchnorm=several and self.gpu,
            precision=LIGHTNING_PRECISIONS[self.precision],
            # All training batches have one size: the fastest kernels for it are worth the search.
            benchmark=self.gpu,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            **options,
        )

    def describe(self) -> dict[str, Any]:
        """Versions, hardware and settings, for the run's folder."""
        return {
            "commit": commit(),
            "machine": self.name(),
            "host": platform.node(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "packages": versions(*PACKAGES),
            **({"cuda": torch.version.cuda} if self.gpu else {}),
            "precision": self.precision,
            "processes": self.share.world,
            "workers": self.workers,
        }

    def name(self) -> str:
        """A description of the hardware."""
        if not self.gpu:
            return machine()
        count = f"{self.share.world} x " if self.share.world > 1 else ""
        return count + torch.cuda.get_device_name()


def _processes() -> tuple[Share, int]:
    """This process's share, and how many processes are on its machine."""
    if TorchElasticEnvironment.detect():
        torchrun = TorchElasticEnvironment()
        return Share(torchrun.global_rank(), torchrun.world_size()), int(os.environ["LOCAL_WORLD_SIZE"])
    if SLURMEnvironment.detect():
        slurm = SLURMEnvironment()
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return Share(slurm.global_rank(), slurm.world_size()), slurm.world_size() // nodes
    return Share(), 1


def _has_bf16(gpu: bool) -> bool:
    if gpu:
        return torch.cuda.get_device_capability() >= (8, 0)
    return cpu.has_bf16()
