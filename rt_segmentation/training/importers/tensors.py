"""A checkpoint file's tensors by name, whichever of four formats it has; nothing in it is executed."""

from __future__ import annotations

import argparse
import importlib
import re
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.safetensors_reader import SafetensorsError, read_safetensors
from rt_segmentation.training.importers.errors import CheckpointError
from rt_segmentation.training.importers.torch7 import Module, read_torch7

FORMATS = "a PyTorch state dict (.pth, .pt), .safetensors, .npz or Torch7 (.t7)"

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net")
"""Under which most training scripts store the state dict beside optimiser and epoch."""
COMPILED = "_orig_mod."
"""What torch.compile adds to the names of a module's tensors."""
MAX_NAMED = 3

TORCH7_TENSORS = ("weight", "bias", "running_mean", "running_var")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read all floating-point tensors as float32; batch norm's step counters and other scalars are left out.

    The format is found from the file's first bytes, not from its name. A state dict may lie under a key, one
    of `STATE_DICT_KEYS` or else the one with the most tensors. DataParallel's prefix ``module.`` is taken
    off, and torch.compile's ``_orig_mod.`` wherever it stands. Tensors of a Torch7 network are named by their
    module's path, 1-based, as ``5.1.1.2.running_var``.

    Raises:
        CheckpointError: the file cannot be read, is of no known format, or has a value that is not finite.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if head[:4] == b"PK\x03\x04":
        tensors = _read_npz(path) if _is_npz(path) else _read_pytorch(path)
    elif head[:1] == b"\x80":
        tensors = _read_pytorch(path)
    elif head[8:9] == b"{":
        tensors = _read_safetensors(path)
    elif head[:4] in (b"\x03\0\0\0", b"\x04\0\0\0"):
        tensors = _read_torch7(path)
    else:
        raise CheckpointError(f"checkpoint {path} is of no known format; it must be {FORMATS}")
    tensors = {key.replace(COMPILED, ""): value for key, value in tensors.items() if value.ndim}
    tensors = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    if tensors and all(key.startswith("module.") for key in tensors):
        tensors = {key[len("module.") :]: value for key, value in tensors.items()}
    for key, value in tensors.items():
        if not np.isfinite(value).all():
            raise CheckpointError(f"checkpoint {path}: tensor '{key}' has values that are not finite")
    return tensors


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"checkpoint {path} is a truncated or damaged archive: {error}") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key].astype(np.float32) for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read as .npz: {error}") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_safetensors(path.read_bytes())
    except SafetensorsError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read as safetensors: {error}") from error
    return {key: np.asarray(value, np.float32) for key, value in arrays.items()}


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise CheckpointError(f"checkpoint {path} is PyTorch's; install torch to import it") from None
    try:
        with _harmless_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged or hostile file raises is documented nowhere and differs by version.
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} {_why_refused(path, error)}") from error
    state = _state_dict(content, torch.Tensor)
    if state is None:
        raise CheckpointError(f"checkpoint {path} has no state dict, neither at its top nor under any key")
    return {
        key: value.detach().float().numpy() for key, value in state.items() if isinstance(value, torch.Tensor)
    }


def _harmless_allowed() -> AbstractContextManager[None]:
    """Lets torch load types beside the weights that only hold values: NumPy's, and parsed arguments."""
    import torch

    # Before, types could not be allowed under the name that they have in a file.
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        return nullcontext()
    multiarray = importlib.import_module("numpy._core.multiarray" if _numpy_2() else "numpy.core.multiarray")
    functions = [multiarray.scalar, multiarray._reconstruct]
    # A file may come from the other major version of NumPy, which has another name for the module.
    named = [(f, f"{m}.multiarray.{f.__name__}") for f in functions for m in ("numpy.core", "numpy._core")]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDUS"}
    return torch.serialization.safe_globals([*named, np.ndarray, np.dtype, *kinds, argparse.Namespace])


def _numpy_2() -> bool:
    return int(np.__version__.partition(".")[0]) >= 2


def _why_refused(path: Path, error: Exception) -> str:
    """What a checkpoint holds besides tensors, or what is damaged, as a predicate."""
    import torch

    advice = "where you trust it, load it yourself and save only model.state_dict()"
    try:
        with _harmless_allowed():
            unsafe = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    # Older versions of torch cannot tell, and neither can any of a damaged file.
    except Exception:
        unsafe = re.findall(r"GLOBAL (\S+) was not an allowed", str(error))
    if unsafe:
        more = f" and {len(unsafe) - MAX_NAMED} more" if len(unsafe) > MAX_NAMED else ""
        names = f"{', '.join(unsafe[:MAX_NAMED])}{more}"
        return f"holds more than tensors: {names}, which would run code of its own; {advice}"
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    # The text before this is about how to load the file all the same.
    text = text.partition("WeightsUnpickler error: ")[2] or text
    return f"holds more than tensors or is damaged ({text.splitlines()[0]}); {advice}"


def _state_dict(content: Any, tensor: type) -> dict[str, Any] | None:
    if not isinstance(content, dict):
        return None
    for key in STATE_DICT_KEYS:
        if (inner := _state_dict(content.get(key), tensor)) is not None:
            return inner
    found = [content, *(value for value in content.values() if isinstance(value, dict))]
    most = max(found, key=lambda one: sum(isinstance(value, tensor) for value in one.values()))
    if not any(isinstance(value, tensor) for value in most.values()):
        return None
    return {str(key): value for key, value in most.items()}


def _read_torch7(path: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    left = path.stat().st_size
    waiting: list[tuple[str, Any]] = [("", read_torch7(path))]
    seen: set[int] = set()
    while waiting:
        name, module = waiting.pop()
        if not isinstance(module, Module):
            raise CheckpointError(f"checkpoint {path} holds no Torch7 network but a {type(module).__name__}")
        # Modules and storages can be referred to again: a small file must not unfold without end.
        if id(module) in seen:
            raise CheckpointError(f"checkpoint {path} uses a {module.type} at '{name}' a second time")
        seen.add(id(module))
        children = module.fields.get("modules")
        if isinstance(children, dict):
            numbers = sorted((key for key in children if isinstance(key, float)), reverse=True)
            waiting += [(f"{name}{number:.0f}.", children[number]) for number in numbers]
            continue
        for key in TORCH7_TENSORS:
            value = module.fields.get(key)
            if isinstance(value, np.ndarray) and value.size:
                left -= value.nbytes
                if left < 0:
                    raise CheckpointError(f"checkpoint {path} has more weights than the file can hold")
                tensors[name + key] = value.astype(np.float32)
    return tensors
