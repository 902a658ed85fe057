"""What is made with torch and kept in the cache: a model's graph as ONNX, and labels to compare with."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey, Made
from rt_segmentation.inference.engines.apart import ApartError, apart
from rt_segmentation.inference.engines.interface import EngineError, EngineUnavailable, GraphUnavailable
from rt_segmentation.inference.network import load_network, model_identity
from rt_segmentation.inference.parity import Gate, parity_frames, resize_frame
from rt_segmentation.inference.versions import REFERENCE as REFERENCE_VERSION
from rt_segmentation.inference.versions import graph_version
from rt_segmentation.models import ModelError, ModelManifest
from rt_segmentation.networks import NetworkError
from rt_segmentation.weights import read_weights

logger = logging.getLogger(__name__)

# Both engines read it, and every exporter from torch 2.1 on writes it.
OPSET = 17

INPUT_NAME = "images"
OUTPUT_NAMES = ("labels", "confidence")

KIND = "graph"
WITH_CONFIDENCE = "network.onnx"
LABELS_ONLY = "labels.onnx"
WEIGHTS = "weights.bin"
SMALL_TENSOR = 1024
PAGE = 4096
REFERENCE = "reference"
REFERENCE_FILE = "frames_and_labels.npz"


def graph_key(manifest: ModelManifest, batch: int, height: int, width: int) -> CacheKey:
    """Key of the graph for uint8 (batch, height, width, 3)."""
    identity = {**model_identity(manifest), "batch": batch, "height": height, "width": width}
    return CacheKey(KIND, identity, _made_with(manifest))


def _made_with(manifest: ModelManifest) -> dict[str, Any]:
    return {"graph_version": graph_version(manifest.network), "opset": OPSET}


def check_exportable(manifest: ModelManifest) -> None:
    """Find out before the first frame what would keep a model's graph from being made.

    Raises:
        EngineUnavailable: there is no graph of this model in the cache, and torch or onnx is missing.
        EngineError: the process that imports torch failed.
        ModelError: the weights do not fit the network.
    """
    if cache.holds(KIND, model_identity(manifest), _made_with(manifest)):
        return
    if manifest.onnx is not None:
        _need(manifest, "onnx")
        return
    try:
        apart(_check, manifest)
    except ApartError as error:
        raise EngineError(f"model '{manifest.name}' cannot be made ready here: {error}") from error


def _check(manifest: ModelManifest) -> None:
    _load_network(manifest, "onnx")


def graph_entry(manifest: ModelManifest, batch: int, height: int, width: int) -> CacheEntry:
    """The graph from the cache, made if it is not there.

    Returns:
        An entry with the graph (`WITH_CONFIDENCE`, and `LABELS_ONLY` which has its first output alone) and
        their weights.

    Raises:
        EngineError: it cannot be made here; the message says why.
    """
    if manifest.fixed_size not in (None, (width, height)):
        raise EngineError(
            f"model '{manifest.name}' takes images of {manifest.width}x{manifest.height} alone, not of"
            f" {width}x{height}: leave the input's size out"
        )
    batch = graph_batch(manifest, batch)
    asked = manifest, batch, height, width
    return _find_or_make(
        graph_key(*asked),
        manifest,
        f"{width}x{height}",
        "graph",
        lambda: apart(_export, *asked) if manifest.onnx is None else _wrap(*asked),
    )


def graph_batch(manifest: ModelManifest, batch: int) -> int:
    """Frames of a batch in the graph that runs it: 1 where an ONNX graph takes no more."""
    return 1 if manifest.onnx is not None and manifest.onnx.fixed_batch else batch


def reference_name(manifest: ModelManifest) -> str:
    """What engines are compared with, in words."""
    if manifest.onnx is None:
        return "torch in fp32"
    golden = f" (for the images of {manifest.onnx.golden}, what that says)" if manifest.onnx.golden else ""
    return f"the model's own ONNX graph in fp32{golden}"


def reference(manifest: ModelManifest, height: int, width: int, gate: Gate) -> tuple[np.ndarray, np.ndarray]:
    """What engines are compared with: the gate's frames, and the network's labels for them.

    Returns:
        uint8 (M, height, width, 3) RGB, and uint8 (M, height, width): the network as it was trained, float32,
        or an ONNX graph as it was imported, and what its golden labels are.

    Raises:
        EngineError: they are not in the cache and cannot be made here; the message says why.
    """
    identity = {
        **model_identity(manifest),
        "height": height,
        "width": width,
        "frames": gate.frames_digest(),
    }
    made_with = {
        "graph_version": graph_version(manifest.network),
        "reference_version": REFERENCE_VERSION,
    }
    asked = manifest, height, width, gate
    entry = _find_or_make(
        CacheKey(REFERENCE, identity, made_with),
        manifest,
        f"{width}x{height}",
        "reference labels",
        lambda: apart(_refer, *asked) if manifest.onnx is None else _refer_to_original(*asked),
    )
    with np.load(io.BytesIO(entry.read(REFERENCE_FILE))) as arrays:
        return arrays["frames"], arrays["labels"]


def _find_or_make(
    key: CacheKey,
    manifest: ModelManifest,
    size: str,
    what: str,
    make: Callable[[], Made],
) -> CacheEntry:
    def made() -> Made:
        logger.info("making the %s of %s for %s: some seconds, the first time", what, manifest.name, size)
        try:
            return make()
        except (ApartError, ModelError, NetworkError, ValueError, OSError) as error:
            raise EngineError(f"model '{manifest.name}' has no {what} at {size}: {error}") from error

    return cache.find_or_make(key, made)


def _load_network(manifest: ModelManifest, *also: str) -> Any:
    # torch is the one to be named where several are missing.
    _need(manifest, "torch", *also)
    return load_network(manifest)


def _need(manifest: ModelManifest, *packages: str) -> None:
    try:
        for package in packages:
            importlib.import_module(package)
    except ImportError as error:
        if error.name is None:
            raise EngineUnavailable(f"model '{manifest.name}' cannot be made ready here: {error}") from error
        raise GraphUnavailable(
            f"model '{manifest.name}' is not ready for this size in {cache.cache_root()}; making it so needs"
            f" the Python package '{error.name}': pip install {' '.join(sorted(packages))}, or run"
            " `rt_seg export` on another computer and copy that folder"
        ) from error


def _export(manifest: ModelManifest, batch: int, height: int, width: int) -> Made:
    network = _load_network(manifest, "onnx")
    import onnx
    import torch

    from rt_segmentation.inference.deploy import deploy
    from rt_segmentation.inference.engines.graph import EngineGraph

    graph = EngineGraph(
        deploy(network, height, width), manifest.mean, manifest.std, manifest.temperature
    ).eval()
    arguments: dict[str, Any] = {"opset_version": OPSET, "do_constant_folding": True}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        # The graph has no control flow: tracing is exact, ten times as fast and needs no onnxscript.
        arguments["dynamo"] = False
    # In memory: a robot's disk may be full or read-only.
    content = arguments["f"] = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # The tracer warns that sizes become constants, which is what a graph of one size is about.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (torch.zeros(batch, height, width, 3, dtype=torch.uint8),),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            **arguments,
        )
    files = _share_weights(content.getvalue())
    return files, {"torch": str(torch.__version__), "onnx": onnx.__version__}


def _refer(manifest: ModelManifest, height: int, width: int, gate: Gate) -> Made:
    network = _load_network(manifest)
    import torch

    from rt_segmentation.networks.outputs import logits_for, multiple_of

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (manifest.mean, manifest.std))
    frames = parity_frames(height, width, gate)
    labels = []
    with torch.inference_mode():
        for frame in torch.from_numpy(frames):
            pixels = (frame.permute(2, 0, 1).float() / 255 - mean) / std
            logits = logits_for(network, pixels.unsqueeze(0), multiple_of(network))
            labels.append(logits.argmax(1)[0].byte().numpy())
    content = io.BytesIO()
    np.savez_compressed(content, frames=frames, labels=np.stack(labels))
    return {REFERENCE_FILE: content.getvalue()}, {"torch": str(torch.__version__)}


def _wrap(manifest: ModelManifest, batch: int, height: int, width: int) -> Made:
    _need(manifest, "onnx")
    import onnx

    from rt_segmentation.inference.foreign.graph import wrap

    graph = wrap(read_weights(manifest), manifest, (batch, height, width), INPUT_NAME, OUTPUT_NAMES)
    return _share_weights(graph), {"onnx": onnx.__version__}


def _refer_to_original(manifest: ModelManifest, height: int, width: int, gate: Gate) -> Made:
    from rt_segmentation.inference.foreign.golden import golden_of
    from rt_segmentation.inference.foreign.original import original_of

    original, golden = original_of(manifest), golden_of(manifest)
    frames = list(parity_frames(height, width, gate))
    labels = [original(frame).labels for frame in frames]
    for image, wanted in golden:
        # At other sizes the images still show what the model will see.
        same = image.shape[:2] == (height, width)
        frame = image if same else resize_frame(image, height, width)
        frames.append(frame)
        labels.append(wanted if same else original(frame).labels)
    content = io.BytesIO()
    np.savez_compressed(content, frames=np.stack(frames), labels=np.stack(labels))
    return {REFERENCE_FILE: content.getvalue()}, {"onnx": original.made_with}


def _share_weights(content: bytes) -> dict[str, bytes]:
    """The model in a file, the same with its first output alone, and one file of weights for both."""
    import onnx
    from onnx.external_data_helper import set_external_data
    from onnx.utils import Extractor

    both = onnx.load_model_from_string(content)
    weights = bytearray()
    for tensor in both.graph.initializer:
        if len(tensor.raw_data) >= SMALL_TENSOR:
            # Readers map pages into their memory.
            weights += bytes(-len(weights) % PAGE)
            set_external_data(tensor, WEIGHTS, len(weights), len(tensor.raw_data))
            weights += tensor.raw_data
            tensor.ClearField("raw_data")
    labels_only = Extractor(both).extract_model([INPUT_NAME], [OUTPUT_NAMES[0]])
    return {
        WITH_CONFIDENCE: both.SerializeToString(),
        LABELS_ONLY: labels_only.SerializeToString(),
        WEIGHTS: bytes(weights),
    }


def graph_identity(graph: Path) -> dict[str, Any]:
    """What tells a graph of the cache from others, for keys of what is made of it; a path of `onnx_model`."""
    described = json.loads((graph.parent / cache.DESCRIPTION).read_text(encoding="utf-8"))
    digests = described["files"]
    return {**described["identity"], "graph": digests[graph.name], "graph_weights": digests[WEIGHTS]}


def onnx_model(entry: CacheEntry, name: str) -> Path | bytes:
    """A graph of an entry as engines read it: its path, or of an entry in memory a model with its weights."""
    if entry.memory is None:
        return entry.file(name)
    # It was made here: onnx is there.
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    model = onnx.load_model_from_string(entry.read(name))
    weights = entry.read(WEIGHTS)
    for tensor in model.graph.initializer:
        if uses_external_data(tensor):
            place = ExternalDataInfo(tensor)
            start, length = place.offset or 0, place.length or 0
            tensor.raw_data = weights[start : start + length]
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    content: bytes = model.SerializeToString()
    return content
