"""What ONNX Runtime really runs on is what the engine says; no GPU is needed to see it fail to load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
import onnxruntime

from rt_segmentation.inference.engines import EngineUnavailable, auto_order, build_engine, choosing
from rt_segmentation.inference.engines import onnxruntime_engine as engine
from rt_segmentation.models import ModelManifest

GPU_PACKAGE = [engine._TENSORRT, engine._CUDA, engine._CPU]


@pytest.fixture(autouse=True)
def not_known_yet() -> Iterator[None]:
    engine.working_providers.cache_clear()
    yield
    engine.working_providers.cache_clear()


def test_a_provider_that_cannot_be_loaded_is_not_used_silently(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As onnxruntime-gpu says on a machine without a GPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: GPU_PACKAGE)
    assert engine.working_providers() == (engine._CPU,)
    assert "ONNX Runtime's TensorrtExecutionProvider cannot be used here" in caplog.text
    assert "ONNX Runtime's CUDAExecutionProvider cannot be used here" in caplog.text
    assert engine.ONNXRuntimeEngine.precisions() == ("fp32",)
    # On the CPU int8 is there for whoever names it; providers for GPUs have their own.
    assert engine.ONNXRuntimeEngine.offered() == ("fp32", "int8")
    monkeypatch.setattr(engine, "working_providers", lambda: (engine._CUDA, engine._CPU))
    assert engine.ONNXRuntimeEngine.offered() == ("fp32",)


def test_tensorrts_files_lie_with_their_graph(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = build_engine(small_model, "onnxruntime", "fp32")
    assert isinstance(made, engine.ONNXRuntimeEngine) and made.device.endswith(", CPU")
    monkeypatch.setattr(engine, "working_providers", lambda: tuple(GPU_PACKAGE))
    tried: list[Any] = []

    def session(model: str, providers: list[Any], options: Any) -> Any:
        tried.append(providers)
        if Path(providers[0][1]["trt_engine_cache_path"]).exists():
            raise RuntimeError("deserialize the cuda engine failed")

    monkeypatch.setattr(engine, "_session", session)
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        made.compile_graph(tmp_path / name / "labels.onnx")
    paths = [Path(providers[0][1]["trt_engine_cache_path"]) for providers in tried]
    assert paths == [tmp_path / "one" / "tensorrt", tmp_path / "another" / "tensorrt"]
    assert [providers[1] for providers in tried] == [(engine._CUDA, {"use_tf32": 0})] * 2


def test_tensorrts_damaged_files_are_built_again(
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = build_engine(small_model, "onnxruntime", "fp32")
    assert isinstance(made, engine.ONNXRuntimeEngine)
    monkeypatch.setattr(engine, "working_providers", lambda: tuple(GPU_PACKAGE))
    damaged = tmp_path / "tensorrt" / "half.engine"
    damaged.parent.mkdir()
    damaged.touch()

    def session(model: str, providers: list[Any], options: Any) -> Any:
        if damaged.exists():
            raise RuntimeError("deserialize the cuda engine failed\nmore")

    monkeypatch.setattr(engine, "_session", session)
    made.compile_graph(tmp_path / "labels.onnx")
    assert not damaged.exists()
    assert "fail (deserialize the cuda engine failed) and are built again" in caplog.text


@pytest.mark.parametrize(
    ("torch_has_cuda", "providers", "first"),
    [
        (True, (engine._CPU,), "torch2trt"),
        (False, (engine._CUDA, engine._CPU), "onnxruntime"),
        (False, (engine._CPU,), "openvino"),
    ],
)
def test_a_gpu_is_used_by_whoever_can(
    torch_has_cuda: bool,
    providers: tuple[str, ...],
    first: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(choosing, "_NVIDIA", (str(tmp_path),))
    monkeypatch.setattr(choosing, "_torch_has_cuda", lambda: torch_has_cuda)
    monkeypatch.setattr(engine, "working_providers", lambda: providers)
    order = auto_order()
    assert order[0] == first and set(order) >= set(choosing.CPU_ORDER)


def test_a_library_without_its_own_libraries_is_not_there(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "half_a_library.py").write_text(
        "raise OSError('libcudart.so.12: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(choosing.ENGINES, "half", "half_a_library:Engine")
    with pytest.raises(EngineUnavailable, match=r"engine 'half' .*: libcudart\.so\.12: cannot open"):
        build_engine(small_model, "half", "fp32")
