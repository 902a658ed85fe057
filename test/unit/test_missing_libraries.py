"""Packages that are there and lack a shared library: their import errors name no package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rt_segmentation.inference.engines import EngineUnavailable, build_engine, export
from rt_segmentation.inference.engines.openvino_int8.calibration import find_ranges
from rt_segmentation.models import ModelManifest

ERROR = "libtbb.so.12: cannot open shared object file"


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that cannot be imported, in the place of the real one."""
    package: str = request.param
    (tmp_path / f"{package}.py").write_text(f"raise ImportError('{ERROR}')")
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = f"rt_segmentation.inference.engines.{package}_engine"
    for name in [n for n in sys.modules if n.partition(".")[0] == package or n == engine]:
        monkeypatch.delitem(sys.modules, name)
    return package


@pytest.mark.parametrize("broken", ["openvino", "onnxruntime"], indirect=True)
def test_an_engine_says_which(broken: str, small_model: ModelManifest) -> None:
    with pytest.raises(EngineUnavailable, match=f"engine '{broken}' cannot be used: {ERROR}"):
        build_engine(small_model, broken, "fp32")


@pytest.mark.parametrize("broken", ["onnx"], indirect=True)
def test_an_export_says_which(broken: str, small_model: ModelManifest) -> None:
    with pytest.raises(EngineUnavailable, match=f"cannot be made ready here: {ERROR}"):
        export._load_network(small_model, broken)


@pytest.mark.parametrize("broken", ["nncf"], indirect=True)
def test_calibration_says_which(broken: str, small_model: ModelManifest) -> None:
    with pytest.raises(EngineUnavailable, match=f"int8 ranges cannot be found here: {ERROR}"):
        find_ranges(small_model, [], "nothing")
