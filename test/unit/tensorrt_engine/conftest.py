"""A stand-in for TensorRT, on a GPU that is the CPU."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rt_segmentation.inference.engines import build_engine, cuda_driver
from rt_segmentation.models import ModelManifest

STAND_IN = Path(__file__).resolve().parents[2] / "support" / "fake_tensorrt"
LIBRARIES = ("fake_cuda", "fake_driver", "tensorrt", "torch2trt")
OURS = tuple(f"rt_segmentation.inference.engines.tensorrt_{name}" for name in ("engine", "execution"))


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


@pytest.fixture(scope="module")
def graphs(small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the small model's graph for two frames, and with the labels that an engine must reach."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder))
        build_engine(small_model, "onnxruntime", "fp32").prepare(2, 64, 96)
    return folder


@pytest.fixture(params=["10", "11"])
def onnx_tensorrt(
    request: pytest.FixtureRequest,
    no_libraries: None,
    graphs: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Any]:
    """The stand-in with its parser of ONNX, on a driver that is one as well, with nothing that it built."""
    shutil.copytree(graphs, tmp_path / "cache")
    monkeypatch.setenv("FAKE_TENSORRT_API", request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(STAND_IN))
    fake = importlib.import_module("fake_driver").FakeDriver
    fake.allocated.clear()
    fake.streams.clear()
    monkeypatch.setattr(cuda_driver, "load", fake)
    cuda_driver.driver.cache_clear()
    yield importlib.import_module("tensorrt")
    cuda_driver.driver.cache_clear()


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in LIBRARIES or name in OURS]
