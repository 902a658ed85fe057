"""Device 'cuda' is the CPU: what `torch.cuda` and device arguments do, as far as one GPU and stream need it.

`install()` patches an imported torch. Streams do all immediately. A CUDA graph is real in what matters:
while one is recorded the operations' tensors are noted, and a replay runs them again into the same memory.
Engines of the stand-in for `tensorrt` that start meanwhile are replayed with the addresses they had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NAME = "Fake Orin"
# Of an Orin Nano with 8 GB.
PROPERTIES = SimpleNamespace(major=8, minor=7, multi_processor_count=8, total_memory=7_990_000_000)

_FACTORIES = (
    "empty", "zeros", "ones", "full", "rand", "randn", "tensor", "as_tensor", "arange",
    "empty_like", "zeros_like", "ones_like",
)  # fmt: skip
_recording: list[Any] = []


def launched(again: Callable[[], None]) -> None:
    """An engine was started: if a graph is recorded, it is part of it."""
    for recorder in _recording:
        recorder.steps.append(again)


def _memory(tree: Any) -> set[int]:
    return {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}


def _keep(*tree: Any) -> Callable[[], None]:
    """A step that does nothing but keep what it was made with."""

    def step() -> None:
        _ = tree

    return step


class _Recorder(TorchDispatchMode):
    def __init__(self, steps: list[Callable[[], None]]) -> None:
        super().__init__()
        self.steps = steps

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if any(r.alias_info is not None and r.alias_info.is_write for r in func._schema.returns):
            self.steps.append(lambda: func(*args, **kwargs))
            return found
        if _memory(found) & _memory((args, kwargs)):
            # A view: it lives as long as what it looks at. What `reshape` and `to` return may be one or not.
            self.steps.append(_keep(args, found))
            return found
        outputs = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]

        def again() -> None:
            results = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]
            for old, new in zip(outputs, results):
                old.copy_(new)

        # Memory that is only handed out keeps what others write there.
        empty = func._schema.name.startswith("aten::empty") or func._schema.name == "aten::new_empty"
        self.steps.append(_keep(outputs) if empty else again)
        return found


class CUDAGraph:
    """What was recorded, to be run again."""

    replays = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.steps: list[Callable[[], None]] = []

    def replay(self) -> None:
        CUDAGraph.replays += 1
        with torch.inference_mode():
            for step in self.steps:
                step()


@contextlib.contextmanager
def graph(cuda_graph: CUDAGraph, pool: Any = None, stream: Any = None, **_: Any) -> Iterator[None]:
    recorder = _Recorder(cuda_graph.steps)
    _recording.append(recorder)
    try:
        with recorder:
            yield
    finally:
        _recording.remove(recorder)


class Stream:
    """Does everything immediately."""

    cuda_stream = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        assert isinstance(other, Stream)

    def synchronize(self) -> None:
        pass


def _is_cuda(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and str(device).startswith("cuda")


def _factory(original: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **kwargs: Any) -> Any:
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        return original(*args, **kwargs)

    made.__name__ = getattr(original, "__name__", "made")
    return made


def _cuda(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    # A copy to the GPU is other memory.
    return tensor.clone() if tensor.requires_grad else tensor.detach().clone()


def install(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Patch an imported torch.

    Args:
        put: sets an attribute of an object; a test's can take it back.
    """
    for name in _FACTORIES:
        put(torch, name, _factory(getattr(torch, name)))
    original_to = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        args = tuple("cpu" if _is_cuda(a) else a for a in args)
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = "cpu"
        moved: torch.Tensor = original_to(self, *args, **kwargs)
        return moved

    put(torch.Tensor, "to", to)
    put(torch.Tensor, "cuda", _cuda)
    patches = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: NAME,
        "get_device_properties": lambda *_: PROPERTIES,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "Stream": Stream,
        "current_stream": lambda *_: Stream(),
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": CUDAGraph,
        "graph": graph,
    }
    for name, value in patches.items():
        put(torch.cuda, name, value)
