"""What can be said of torch2trt without a GPU: its arguments, what is missing, and what its networks are."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
import numpy as np
import torch
from torch import nn

from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.deploy.torch2trt_calls import PARAMETERS
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, build_engine
from rt_segmentation.inference.engines import torch2trt_engine as engine
from rt_segmentation.models import ModelManifest
from rt_segmentation.networks import build_network

TENSORRT = SimpleNamespace(
    Logger=SimpleNamespace(WARNING=2),
    DeviceType=SimpleNamespace(DLA="dla"),
    BuilderFlag=SimpleNamespace(TF32="tf32"),
    __version__="10.3.0",
)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("dla", [None, 1])
def test_our_arguments_are_among_torch2trts(precision: str, dla: int | None) -> None:
    images = torch.zeros(1, 3, 64, 64)
    arguments = engine.conversion_arguments(TENSORRT, nn.Identity(), images, precision, dla, [[images]])
    assert set(arguments) <= set(PARAMETERS)
    assert arguments["fp16_mode"] == (precision != "fp32")
    assert arguments["int8_mode"] == ("int8_calib_dataset" in arguments) == (precision == "int8")
    assert arguments.get("dla_core") == dla


@pytest.mark.parametrize("installed", [(), ("torch2trt",), ("torch2trt", "tensorrt")])
def test_what_is_missing_is_said(
    installed: tuple[str, ...], small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("nothing is missing here")
    for name in ("torch2trt", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name) if name in installed else None)
    missing = next((n for n in ("torch2trt", "tensorrt") if n not in installed), "CUDA GPU")
    with pytest.raises(EngineUnavailable, match=missing):
        build_engine(small_model, "torch2trt", "fp16")


def test_the_accelerator_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engine.DLA_VARIABLE, raising=False)
    assert engine.dla_core() is None
    monkeypatch.setenv(engine.DLA_VARIABLE, "1")
    assert engine.dla_core() == 1
    monkeypatch.setenv(engine.DLA_VARIABLE, "gpu")
    with pytest.raises(EngineError, match=r"is 'gpu', it should be the number"):
        engine.dla_core()


def test_the_builder_tells_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=engine.__name__)
    tensorrt = SimpleNamespace(IProgressMonitor=type("IProgressMonitor", (), {}))
    monitor = engine._progress_monitor(tensorrt, "small")
    settings = SimpleNamespace()
    torch2trt = SimpleNamespace(get_conversion_context=lambda: SimpleNamespace(builder_config=settings))
    images = torch.rand(1, 3, 4, 4)
    conversion = engine._Conversion(nn.ReLU(), torch2trt, TENSORRT, "fp16", monitor)
    assert torch.equal(conversion(images), images)
    assert settings.progress_monitor is monitor
    monitor.phase_start("tactics", None, 10)
    monitor._logged -= engine.PROGRESS_INTERVAL_S
    assert monitor.step_complete("tactics", 4) is True
    assert "small: tactics, step 5 of 10" in caplog.text
    monitor.phase_finish("tactics")
    assert engine._progress_monitor(SimpleNamespace(), "old") is None


@pytest.mark.parametrize(("precision", "cleared"), [("fp32", ["tf32"]), ("fp16", []), ("int8", [])])
def test_fp32_has_all_its_bits(precision: str, cleared: list[str]) -> None:
    flags: list[str] = []
    settings = SimpleNamespace(clear_flag=flags.append)
    torch2trt = SimpleNamespace(get_conversion_context=lambda: SimpleNamespace(builder_config=settings))
    engine._Conversion(nn.ReLU(), torch2trt, TENSORRT, precision, None)(torch.rand(1, 3, 4, 4))
    assert flags == cleared


@pytest.mark.parametrize("dla", [None, 1])
def test_the_body_in_tensorrt_keeps_no_weights(dla: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes: list[Any] = []

    class Runtime:
        def __init__(self, logger: Any) -> None:
            runtimes.append(self)

        def deserialize_cuda_engine(self, serialized: bytes) -> bytes:
            # The core is read when the engine is loaded.
            self.core_when_loaded = getattr(self, "DLA_core", None)
            return serialized

    tensorrt = SimpleNamespace(**vars(TENSORRT), Runtime=Runtime)
    tensorrt.Logger = lambda level: None
    tensorrt.Logger.WARNING = 2
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    module = SimpleNamespace(TRTModule=lambda built, inputs, outputs: nn.Identity())
    monkeypatch.setitem(sys.modules, "torch2trt", module)
    network = deploy(build_network("enet", 11).eval(), 64, 96)
    coarse = torch.rand(1, 44, 32, 48)
    expected = network.body.spread(coarse)
    body = engine.TensorRTBody(network.body, b"engine", dla)
    assert all(parameter.is_meta for parameter in network.body.parameters())
    assert torch.equal(body.spread(coarse), expected) and body.phases == 4
    assert runtimes[0].core_when_loaded == dla


def test_other_frames_calibrate_anew_and_are_judged_anew(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorrt", TENSORRT)
    monkeypatch.setattr(engine.Torch2TRTEngine, "offered", classmethod(lambda cls: ("fp16", "fp32", "int8")))
    built: list[bytes] = []

    def build(self: Any, *shape: Any) -> bytes:
        built.append(b"engine %d" % len(built))
        return built[-1]

    monkeypatch.setattr(engine.Torch2TRTEngine, "_build", build)
    frames = [np.full((4, 4, 3), value, np.uint8) for value in (1, 2)]
    verdicts = []
    for calibration in ([frames[0]], [frames[0]], [], [frames[1]], []):
        made = engine.Torch2TRTEngine(small_model, "int8", calibration=calibration)
        serialized = made._engine(deploy(made._network, 64, 96), 1, 64, 96)
        assert serialized == built[-1]
        verdicts.append(made._verdict_key(1, 64, 96).folder_name)
    assert len(built) == 2
    assert verdicts[0] == verdicts[1] == verdicts[2] != verdicts[3] == verdicts[4]


def test_padding_takes_what_tensorrt_10_has() -> None:
    registered: dict[str, Any] = {}

    def converter(name: str) -> Any:
        return lambda function: registered.setdefault(name, function)

    engine._register_padding(SimpleNamespace(tensorrt_converter=converter))
    padded: list[Any] = []

    def add_padding_nd(images: str, before: Any, after: Any) -> Any:
        padded.append((images, before, after))
        return SimpleNamespace(get_output=lambda index: "padded")

    result = SimpleNamespace()
    context = SimpleNamespace(
        method_args=(SimpleNamespace(_trt="images"), (1, 2, 3, 4)),
        method_return=result,
        network=SimpleNamespace(add_padding_nd=add_padding_nd),
    )
    registered["torch.nn.functional.pad"](context)
    # Rows first: (top, left) before, (bottom, right) after.
    assert padded == [("images", (3, 1), (4, 2))] and result._trt == "padded"
