"""What another process is asked to do; none of it needs PyTorch."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rt_segmentation.inference.engines import EngineUnavailable
from rt_segmentation.inference.parity import ParityError
from rt_segmentation.models import ModelError
from rt_segmentation.networks import registered_networks


def number(*_: Any) -> int:
    """Of the process that does it, which says so on stdout."""
    print("said on stdout")
    os.system("echo by another program")
    return os.getpid()


def known() -> dict[str, Any]:
    """The networks that are registered there."""
    return registered_networks()


def fail(kind: str) -> None:
    """Raise an error."""
    raise {
        "unavailable": EngineUnavailable("needs something"),
        "model": ModelError("does not fit"),
        "parity": ParityError("no image"),
        "os": OSError(28, "no space left"),
        "key": KeyError("x"),
        "empty": MemoryError(),
    }[kind]


def die(*_: Any) -> None:
    """End as where memory runs out."""
    print("these are\nmy last\nwords", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def leave(*_: Any) -> None:
    """End as a program does."""
    sys.exit(3)


def freeze(said: Path | None = None) -> None:
    """Keep Python's lock in native code for longer than any test takes."""
    if said is not None:
        said.write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def foreign() -> Path:
    """What is not of Python's own types."""
    return Path("here")
