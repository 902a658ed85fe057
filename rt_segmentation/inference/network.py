"""A manifest's network, and what of a manifest decides what it computes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rt_segmentation.models import ModelError, ModelManifest
from rt_segmentation.networks import build_network, code_digest
from rt_segmentation.weights import compare_shapes, load_weights

if TYPE_CHECKING:
    from torch import nn


def model_identity(manifest: ModelManifest) -> dict[str, Any]:
    """What of a model decides what its graphs compute, as JSON's types; it costs no torch."""
    own_code = code_digest(manifest.network) if manifest.network else ""
    return {
        "model": manifest.name,
        "network": manifest.network,
        **({"network_code": own_code} if own_code else {}),
        "options": dict(manifest.options),
        "classes": len(manifest.labels().classes),
        "weights": manifest.sha256,
        "mean": list(manifest.mean),
        "std": list(manifest.std),
        **({} if manifest.onnx is None else {"onnx": asdict(manifest.onnx)}),
        # Graphs of models without one are what they were before there were any.
        **({"temperature": manifest.temperature} if manifest.temperature != 1 else {}),
    }


def load_network(manifest: ModelManifest) -> nn.Module:
    """Build a manifest's network in eval mode, float32, with its weights.

    Raises:
        ModelError: the weights are missing or damaged, or do not fit; the message says what differs. Or the
            model is an ONNX graph.
    """
    if manifest.onnx is not None:
        raise ModelError(f"model '{manifest.name}' is an ONNX graph, and PyTorch runs none")
    import torch

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
