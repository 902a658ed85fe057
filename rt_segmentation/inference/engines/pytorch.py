"""What engines that run inside PyTorch have in common."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch

from rt_segmentation.inference.deploy import DeployedNetwork
from rt_segmentation.inference.engines.compiled import CompiledEngine
from rt_segmentation.inference.engines.interface import Runner
from rt_segmentation.inference.network import load_network
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest


class PyTorchEngine(CompiledEngine[DeployedNetwork]):
    """An engine that deploys a network for each batch and size; it works at one batch at a time."""

    def __init__(
        self, manifest: ModelManifest, precision: str, gate: Gate | None = None, parallel: int = 1
    ) -> None:
        super().__init__(manifest, precision, gate, parallel)
        self._network = load_network(manifest)
        self._at_work = threading.Lock()

    def _run(self, runner: Runner, images: np.ndarray) -> list[np.ndarray]:
        with self._at_work:
            return super()._run(runner, images)

    def _versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def _hardware(self) -> dict[str, Any]:
        """What tells GPUs of one name apart, as the Orins: capability, multiprocessors, memory."""
        if not torch.cuda.is_available():
            return {}
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        return {
            "gpu": {
                "capability": f"{found.major}.{found.minor}",
                "multiprocessors": found.multi_processor_count,
                "memory_gib": round(found.total_memory / (1 << 30)),
            }
        }
