"""The files beside a model's manifest: weights or an ONNX graph, read, checked and written.

Reading them needs no torch: weights come as NumPy arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from rt_segmentation.files import replacing_together
from rt_segmentation.models import ModelError, ModelManifest, check_manifest, write_manifest
from rt_segmentation.safetensors_reader import SafetensorsError, read_safetensors


def read_weights(manifest: ModelManifest) -> bytes:
    """Read the file of the weights.

    Raises:
        ModelError: it is missing, or its sha256 is not the manifest's.
    """
    return _read_checked(manifest, manifest.weights_path, manifest.sha256, "weights")


def check_weights(manifest: ModelManifest) -> None:
    """Check that the model's files are what the manifest says; an ONNX graph is not looked into.

    Raises:
        ModelError: one is missing or damaged.
    """
    if manifest.onnx is None:
        load_weights(manifest)
    else:
        read_weights(manifest)
        read_golden(manifest)


def read_golden(manifest: ModelManifest) -> bytes | None:
    """Read the images and labels that an ONNX graph must reproduce, an .npz; None where there are none.

    Raises:
        ModelError: the file is missing, or its sha256 is not the manifest's.
    """
    if manifest.onnx is None or not manifest.onnx.golden:
        return None
    path = manifest.path.parent / manifest.onnx.golden
    return _read_checked(manifest, path, manifest.onnx.golden_sha256, "golden labels")


def _read_checked(manifest: ModelManifest, path: Path, sha256: str, what: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{what} {path} of model '{manifest.name}' cannot be read: {error.strerror}"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ModelError(
            f"{what} {path} have sha256 {digest[:12]}…, manifest {manifest.path} says"
            f" {sha256[:12]}…; the file is damaged or another one"
        )
    return data


def load_weights(manifest: ModelManifest) -> dict[str, np.ndarray]:
    """Read the weights, float32, by the network's state-dict names.

    Raises:
        ModelError: the file is missing, its sha256 is not the manifest's, it is not safetensors, or a value
            is no finite number: every pixel would get class 0, on every engine.
    """
    path = manifest.weights_path
    data = read_weights(manifest)
    if manifest.onnx is not None:
        raise ModelError(
            f"model '{manifest.name}' is an ONNX graph: its weights belong to no network of PyTorch's"
        )
    try:
        arrays = read_safetensors(data)
    except SafetensorsError as error:
        raise ModelError(f"weights {path} are not a safetensors file: {error}") from error
    weights = {key: array.astype(np.float32) for key, array in arrays.items()}
    for key, array in weights.items():
        if not np.isfinite(array).all():
            raise ModelError(f"weights {path} have values in '{key}' that are no finite numbers")
    return weights


def compare_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], what: str = "weights"
) -> str | None:
    """Say in one sentence how names and shapes of weights differ from a network's; None if they do not."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    differing = sorted(k for k in set(expected) & set(found) if expected[k] != found[k])
    parts = []
    if missing:
        parts.append(f"{len(missing)} tensors are missing (first '{missing[0]}')")
    if extra:
        parts.append(f"{len(extra)} are not the network's (first '{extra[0]}')")
    if differing:
        key = differing[0]
        parts.append(
            f"{len(differing)} have another shape (first '{key}': {found[key]}, wanted {expected[key]})"
        )
    return f"the {what} do not fit the network: {'; '.join(parts)}" if parts else None


def save_model(manifest: ModelManifest, arrays: dict[str, np.ndarray]) -> ModelManifest:
    """Write weights (as the arrays' dtypes) and then the manifest, each replaced whole or not at all.

    Args:
        manifest: `path` says where; `sha256` is filled in.
        arrays: by the network's state-dict names.

    Returns:
        The manifest as written.

    Raises:
        ModelError: `read_manifest` would refuse the manifest; nothing is written then.
    """
    from safetensors.numpy import save

    check_manifest(manifest)
    return _write(manifest, save({key: np.ascontiguousarray(array) for key, array in arrays.items()}), {})


def save_onnx_model(manifest: ModelManifest, graph: bytes, golden: bytes | None = None) -> ModelManifest:
    """Write a graph, the labels that it must reproduce, and then the manifest; see `save_model`.

    Args:
        manifest: `path` says where, and `onnx` how the graph is used; the files' sha256 are filled in.
        graph: an ONNX file with all its weights.
        golden: an .npz; see `read_golden`.
    """
    interface = manifest.onnx
    if interface is not None and golden is not None:
        digest = hashlib.sha256(golden).hexdigest()
        interface = replace(interface, golden=f"{manifest.path.stem}.golden.npz", golden_sha256=digest)
        manifest = replace(manifest, onnx=interface)
    check_manifest(manifest)
    if interface is None or golden is None:
        return _write(manifest, graph, {})
    return _write(manifest, graph, {manifest.path.parent / interface.golden: golden})


def _write(manifest: ModelManifest, data: bytes, beside: Mapping[Path, bytes]) -> ModelManifest:
    manifest.path.parent.mkdir(parents=True, exist_ok=True)
    # They get their names after all that may fail: a full disk leaves the earlier model whole.
    with replacing_together({**beside, manifest.weights_path: data}):
        return write_manifest(replace(manifest, sha256=hashlib.sha256(data).hexdigest()))
