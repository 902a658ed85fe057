"""A model's graph for one batch and size, as ONNX in the cache; only making one needs torch."""

from __future__ import annotations

import importlib
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey
from rt_segmentation.inference.engines import EngineError, EngineUnavailable
from rt_segmentation.inference.parity import parity_frames
from rt_segmentation.models import ModelError, ModelManifest
from rt_segmentation.networks import NetworkError

logger = logging.getLogger(__name__)

# Both engines read it, and every exporter from torch 2.1 on writes it.
OPSET = 17

INPUT_NAME = "images"
OUTPUT_NAMES = ("labels", "confidence")

KIND = "graph"
WITH_CONFIDENCE = "network.onnx"
LABELS_ONLY = "labels.onnx"
WEIGHTS = "weights.bin"
REFERENCE = "reference.npz"


def model_identity(manifest: ModelManifest) -> dict[str, Any]:
    """What of a model decides what its graphs compute."""
    return {
        "model": manifest.name,
        "network": manifest.network,
        "options": dict(manifest.options),
        "classes": len(manifest.labels().classes),
        "weights": manifest.sha256,
        "mean": list(manifest.mean),
        "std": list(manifest.std),
    }


def graph_key(manifest: ModelManifest, batch: int, height: int, width: int) -> CacheKey:
    """Key of the graph for uint8 (batch, height, width, 3)."""
    identity = {**model_identity(manifest), "batch": batch, "height": height, "width": width}
    return CacheKey(KIND, identity, {"code": cache.code_digest(), "opset": OPSET})


def check_exportable(manifest: ModelManifest) -> None:
    """Find out before the first frame what would keep a model's graph from being made.

    Raises:
        EngineUnavailable: there is no graph of this model in the cache, and torch or onnx is missing.
        ModelError: the weights do not fit the network.
    """
    if not cache.holds(KIND, model_identity(manifest)):
        _load_network(manifest)


def graph_entry(manifest: ModelManifest, batch: int, height: int, width: int) -> CacheEntry:
    """The graph from the cache, made if it is not there.

    Returns:
        An entry with the graph (`WITH_CONFIDENCE`, and `LABELS_ONLY` which has its first output alone), their
        weights, and two frames with the labels that the network, as it was trained, gives them (`REFERENCE`).

    Raises:
        EngineError: it cannot be made here; the message says why.
    """
    key = graph_key(manifest, batch, height, width)
    entry = cache.find(key)
    if entry is not None:
        return entry
    with cache.locked(key):
        entry = cache.find_quietly(key)
        if entry is not None:
            return entry
        logger.info(
            "making the graph of %s for %dx%d: some seconds, the first time", manifest.name, width, height
        )
        try:
            return cache.store(key, *_export(manifest, batch, height, width))
        except (ModelError, NetworkError, ValueError) as error:
            raise EngineError(f"model '{manifest.name}' has no graph at {width}x{height}: {error}") from error
        except OSError as error:
            raise EngineError(f"engine cache {cache.cache_root()} cannot be written: {error}") from error


def load_reference(entry: CacheEntry) -> tuple[np.ndarray, np.ndarray]:
    """The two frames, uint8 (2, H, W, 3), and the network's labels for them, uint8 (2, H, W)."""
    with np.load(entry.file(REFERENCE)) as arrays:
        return arrays["frames"], arrays["labels"]


def _load_network(manifest: ModelManifest) -> Any:
    try:
        from rt_segmentation.inference.engines.torch_engine import load_network

        # After torch, which is the one to be named where both are missing.
        importlib.import_module("onnx")
    except ImportError as error:
        raise EngineUnavailable(
            f"model '{manifest.name}' has no graph of this size in {cache.cache_root()}, and making one needs"
            f" the Python package '{error.name}': pip install 'rt_segmentation[export]', or run"
            " `rt_seg export` on another computer and copy that folder"
        ) from error
    return load_network(manifest)


def _export(
    manifest: ModelManifest, batch: int, height: int, width: int
) -> tuple[Mapping[str, bytes], Mapping[str, Any]]:
    network = _load_network(manifest)
    import onnx
    import torch

    from rt_segmentation.inference.deploy import deploy
    from rt_segmentation.inference.engines.graph import EngineGraph

    graph = EngineGraph(deploy(network, height, width), manifest.mean, manifest.std).eval()
    frames = parity_frames(height, width)
    arguments: dict[str, Any] = {"opset_version": OPSET, "do_constant_folding": True}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        # The graph has no control flow: tracing is exact, ten times as fast and needs no onnxscript.
        arguments["dynamo"] = False
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        model = Path(folder) / WITH_CONFIDENCE
        # The tracer warns that sizes become constants, which is what a graph of one size is about.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (torch.zeros(batch, height, width, 3, dtype=torch.uint8),),
            str(model),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            **arguments,
        )
        files = _share_weights(model)
        labels = [_reference_labels(network, graph, torch.from_numpy(frame)) for frame in frames]
    reference = io.BytesIO()
    np.savez_compressed(reference, frames=frames, labels=np.stack(labels))
    return {**files, REFERENCE: reference.getvalue()}, {"torch": torch.__version__, "onnx": onnx.__version__}


def _reference_labels(network: Any, graph: Any, frame: Any) -> np.ndarray:
    """Labels uint8 (H, W) of the network as it was trained, in float32."""
    pixels = frame.permute(2, 0, 1).unsqueeze(0).float() * graph.scale + graph.shift
    labels: np.ndarray = network(pixels).max(1)[1][0].numpy().astype(np.uint8)
    return labels


def _share_weights(path: Path) -> dict[str, bytes]:
    """The model in a file, the same with its first output alone, and one file of weights for both."""
    import onnx
    from onnx.utils import Extractor

    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location=WEIGHTS, size_threshold=1024)
    both = onnx.load(str(path), load_external_data=False)
    labels_only = Extractor(both).extract_model([INPUT_NAME], [OUTPUT_NAMES[0]])
    return {
        WITH_CONFIDENCE: both.SerializeToString(),
        LABELS_ONLY: labels_only.SerializeToString(),
        WEIGHTS: path.with_name(WEIGHTS).read_bytes(),
    }
