"""PyTorch on the CPU or on CUDA."""

from __future__ import annotations

import platform

import numpy as np
import torch
from torch import nn

from rt_segmentation.inference.engines import EngineUnavailable
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
    """Eager PyTorch, channels last.

    `precision` 'auto' is fp16 on CUDA and fp32 on the CPU.
    """

    name = "torch"

    def __init__(self, manifest: ModelManifest, precision: str = "auto") -> None:
        cuda = torch.cuda.is_available()
        if precision == "auto":
            precision = "fp16" if cuda else "fp32"
        offered = DTYPES if cuda else {key: DTYPES[key] for key in ("fp32", "bf16")}
        if precision not in offered:
            where = "CUDA" if cuda else "the CPU"
            raise EngineUnavailable(
                f"engine 'torch' has no precision '{precision}' on {where}; it has {', '.join(offered)}"
            )
        self.precision = precision
        self._device = torch.device("cuda" if cuda else "cpu")
        self.device = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU"
        self._dtype = offered[precision]
        network = load_network(manifest)
        self._network = network.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # (x / 255 - mean) / std as one multiply-add of the bytes.
        mean, std = (
            torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (manifest.mean, manifest.std)
        )
        self._scale = (1 / (255 * std)).to(self._device)
        self._shift = (-mean / std).to(self._device)

    @classmethod
    def precisions(cls) -> tuple[str, ...]:
        """What is offered on this machine and chosen by 'auto'."""
        return ("fp16",) if torch.cuda.is_available() else ("fp32",)

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """See `Engine.prepare`."""
        self.infer(np.zeros((batch, height, width, 3), np.uint8), confidence)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Engine.infer`."""
        with torch.inference_mode():
            # (N, H, W, 3) bytes seen as (N, 3, H, W) are channels last already.
            pixels = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
            logits = self._network(torch.addcmul(self._shift, pixels, self._scale).to(self._dtype))
            top, labels = logits.max(1)
            byte_labels = labels.to(torch.uint8).cpu().numpy()
            if not confidence:
                return byte_labels, None
            # The top class's softmax: exp(top - top) / sum(exp(logits - top)).
            probability = 1 / (logits.float() - top.float().unsqueeze(1)).exp_().sum(1)
            return byte_labels, (probability * 255).round().to(torch.uint8).cpu().numpy()
