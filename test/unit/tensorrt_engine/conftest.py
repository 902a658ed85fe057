"""A stand-in for TensorRT, on a GPU that is the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STAND_IN = Path(__file__).resolve().parents[2] / "support" / "fake_tensorrt"
LIBRARIES = ("fake_cuda", "tensorrt", "torch2trt")


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is imported meanwhile of TensorRT is not seen by other tests, and they not by these."""
    for name in _loaded():
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in _loaded():
        del sys.modules[name]


@pytest.fixture(params=["8", "10"])
def tensorrt(
    request: pytest.FixtureRequest, no_libraries: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The stand-in at an API level, with an empty cache."""
    pytest.importorskip("torch")
    monkeypatch.setenv("FAKE_TENSORRT_API", request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RT_SEG_DLA_CORE", raising=False)
    monkeypatch.syspath_prepend(str(STAND_IN))
    importlib.import_module("fake_cuda").install(monkeypatch.setattr)
    return importlib.import_module("tensorrt")


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in LIBRARIES]
