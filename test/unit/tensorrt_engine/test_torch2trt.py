"""Our parts of the engine torch2trt on a stand-in for TensorRT; they need no torch2trt."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.cli import main
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.deploy.body import Body
from rt_segmentation.inference.deploy.torch2trt_calls import PARAMETERS
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, build_engine
from rt_segmentation.inference.engines import tensorrt_builds as builds
from rt_segmentation.inference.engines import torch2trt_conversion as conversion
from rt_segmentation.inference.engines import torch2trt_engine as engine
from rt_segmentation.inference.engines.tensorrt_body import INPUT, OUTPUT, TensorRTBody
from rt_segmentation.models import ModelManifest
from rt_segmentation.networks import build_network

only_10 = pytest.mark.parametrize("tensorrt", ["10"], indirect=True)


def builder(tensorrt: Any) -> Any:
    return tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))


class Network:
    """A network of the stand-in with one input, and a converter's view of it."""

    def __init__(self, tensorrt: Any, images: torch.Tensor) -> None:
        self._builder = builder(tensorrt)
        self.network = self._builder.create_network(1)
        images._trt = self.network.add_input(INPUT, tensorrt.float32, tuple(images.shape))  # type: ignore[attr-defined]

    def call(self, result: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
        return SimpleNamespace(
            network=self.network, method_args=arguments, method_kwargs=keywords, method_return=result
        )

    def serialized(self, output: Any) -> bytes:
        output.name = OUTPUT
        self.network.mark_output(output)
        built = self._builder.build_serialized_network(self.network, self._builder.create_builder_config())
        return bytes(built)


def relu_engine(tensorrt: Any, shape: tuple[int, ...] = (2, 4, 8, 6)) -> bytes:
    images = torch.zeros(shape)
    network = Network(tensorrt, images)
    layer = network.network.add_activation(images._trt, tensorrt.ActivationType.RELU)  # type: ignore[attr-defined]
    return network.serialized(layer.get_output(0))


def test_the_body_is_its_engine(tensorrt: Any) -> None:
    network = deploy(build_network("enet", 11).eval(), 64, 96)
    coarse = torch.rand(1, 44, 32, 48)
    expected = network.body.spread(coarse)
    body = TensorRTBody(network.body, relu_engine(tensorrt), None)
    assert all(parameter.is_meta for parameter in network.body.parameters())
    assert torch.equal(body.spread(coarse), expected) and body.phases == 4
    images = torch.randn(2, 4, 8, 6).contiguous(memory_format=torch.channels_last)
    first = body(images)
    assert torch.equal(first, images.relu())
    others = torch.randn(2, 4, 8, 6)
    assert torch.equal(body(others), others.relu())
    assert first.data_ptr() == body(images).data_ptr(), "what a CUDA graph recorded must stay where it is"
    with pytest.raises(EngineError, match=r"have the shape \(1, 4, 8, 6\), .* built for \(2, 4, 8, 6\)"):
        body(images[:1])


@pytest.mark.parametrize(
    ("tensorrt", "method", "sentence"),
    [
        ("10", "set_input_shape", "refuses its input's shape"),
        ("10", "set_tensor_address", "refuses the address of 'input_0'"),
        ("10", "execute_async_v3", "refuses to run the engine"),
        ("8", "set_binding_shape", "refuses its input's shape"),
        ("8", "execute_async_v2", "refuses to run the engine"),
    ],
    indirect=["tensorrt"],
)
def test_what_tensorrt_refuses_is_raised(
    method: str, sentence: str, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt.IExecutionContext, method, lambda *_: False)
    with pytest.raises(EngineError, match=sentence):
        TensorRTBody(Body(), relu_engine(tensorrt), None)(torch.zeros(2, 4, 8, 6))


def test_an_engine_that_cannot_be_run_is_refused(tensorrt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="cannot load the engine from the cache"):
        TensorRTBody(Body(), relu_engine(tensorrt)[:-9], None)
    monkeypatch.setattr(tensorrt.ICudaEngine, "create_execution_context", lambda self: None)
    with pytest.raises(EngineError, match="has no memory to run the engine in"):
        TensorRTBody(Body(), relu_engine(tensorrt), None)


@pytest.mark.parametrize("installed", [(), ("tensorrt",), ("tensorrt", "torch2trt")])
def test_what_is_missing_is_said(
    installed: tuple[str, ...], small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("nothing is missing here")
    for name in ("tensorrt", "torch2trt"):
        module = ModuleType(name)
        module.__version__ = "10.3.0"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module if name in installed else None)
    missing = next((f"package '{n}'" for n in ("tensorrt", "torch2trt") if n not in installed), "CUDA GPU")
    with pytest.raises(EngineUnavailable, match=missing):
        build_engine(small_model, "torch2trt", "fp16")


def test_a_tensorrt_that_is_too_new_is_named(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "__version__", "11.4.0.106")
    with pytest.raises(EngineUnavailable, match=r"needs TensorRT below 11, and 11\.4\.0\.106 is installed"):
        build_engine(small_model, "torch2trt", "fp16")


def test_a_library_that_is_missing_is_named(
    small_model: ModelManifest, tmp_path: Path, no_libraries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "libnvinfer.so.10: cannot open shared object file"
    (tmp_path / "tensorrt.py").write_text(f"raise ImportError('{error}')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineUnavailable, match=f"'tensorrt' cannot be imported: {error}"):
        build_engine(small_model, "torch2trt", "fp16")


def test_the_accelerator_is_one_that_is_there(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch2trt", ModuleType("torch2trt"))
    assert engine.dla_core() is None
    monkeypatch.setenv(engine.DLA_VARIABLE, "gpu")
    with pytest.raises(EngineError, match=r"is 'gpu', it should be the number"):
        engine.dla_core()
    monkeypatch.setenv(engine.DLA_VARIABLE, "1")
    assert engine.Torch2TRTEngine(small_model, "fp16").device.endswith("DLA 1")
    with pytest.raises(EngineUnavailable, match="no fp32 on a DLA"):
        engine.Torch2TRTEngine(small_model, "fp32")
    monkeypatch.setenv(engine.DLA_VARIABLE, "2")
    with pytest.raises(EngineError, match=r"_CORE is 2, and TensorRT .* has 2 DLA cores here"):
        engine.Torch2TRTEngine(small_model, "fp16")
    monkeypatch.setattr(tensorrt.Builder, "num_DLA_cores", 0)
    with pytest.raises(EngineError, match=r"_CORE is 2, and TensorRT .* has no DLA core here"):
        engine.Torch2TRTEngine(small_model, "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("dla", [None, 1])
def test_our_arguments_are_among_torch2trts(precision: str, dla: int | None, tensorrt: Any) -> None:
    images = torch.zeros(1, 3, 64, 64)
    batches = conversion.CalibrationBatches([np.zeros((4, 4, 3), np.uint8)], torch.Tensor.float, 1)
    given = conversion.conversion_arguments(tensorrt, nn.Identity(), images, precision, dla, batches)
    assert set(given) <= set(PARAMETERS)
    assert given["fp16_mode"] == (precision != "fp32")
    assert given["int8_mode"] == ("int8_calib_dataset" in given) == (precision == "int8")
    algorithm = tensorrt.CalibrationAlgoType.ENTROPY_CALIBRATION_2
    assert given.get("int8_calib_algorithm") == (algorithm if precision == "int8" else None)
    assert given.get("dla_core") == dla


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_builder_is_set_up(precision: str, tensorrt: Any) -> None:
    config = builder(tensorrt).create_builder_config()
    builds.set_up(config, tensorrt, precision, "small")
    assert config.get_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE) == builds.WORKSPACE_BYTES
    # On by default it would take 13 bits from fp32.
    assert config.get_flag(tensorrt.BuilderFlag.TF32) == (precision != "fp32")
    assert (config.progress_monitor is not None) == hasattr(tensorrt, "IProgressMonitor")


@only_10
def test_the_builder_tells_how_far_it_is(tensorrt: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=builds.__name__)
    monitor = builds.progress_monitor(tensorrt, "small")
    monitor.phase_start("tactics", None, 10)
    monitor._logged -= builds.PROGRESS_INTERVAL_S
    assert monitor.step_complete("tactics", 4) is True
    monitor.phase_finish("tactics")
    monitor._logged -= builds.PROGRESS_INTERVAL_S
    # It has ended, or never began: an exception would end a build of minutes.
    assert monitor.step_complete("tactics", 5) is True
    assert [record.getMessage() for record in caplog.records] == [
        "small: tactics, step 5 of 10",
        "small: tactics, step 6",
    ]


def test_padding_is_what_was_asked_or_an_error(tensorrt: Any) -> None:
    images = torch.randn(1, 2, 5, 7)
    expected = F.pad(images, (1, 2, 3, 4))
    network = Network(tensorrt, images)
    conversion._convert_pad(network.call(expected, images, (1, 2, 3, 4)))
    body = TensorRTBody(Body(), network.serialized(expected._trt), None)  # type: ignore[attr-defined]
    assert torch.equal(body(images), expected)
    for arguments in ({"mode": "reflect"}, {"value": 1.0}, {"pad": (1, 2, 3, 4, 5, 6)}):
        with pytest.raises(EngineError, match="is not converted: TensorRT pads the last two"):
            conversion._convert_pad(
                network.call(expected, **{"input": images, "pad": (1, 2, 3, 4), **arguments})
            )


@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu_is_one_layer(slopes: int, tensorrt: Any) -> None:
    images, weight = torch.randn(1, 3, 5, 7), torch.randn(slopes)
    expected = F.prelu(images, weight)
    network = Network(tensorrt, images)
    conversion._convert_prelu(network.call(expected, images, weight))
    assert network.network.num_layers == 2, "the slopes and the layer"
    body = TensorRTBody(Body(), network.serialized(expected._trt), None)  # type: ignore[attr-defined]
    assert torch.equal(body(images), expected)


@only_10
def test_calibration_batches_lie_in_one_place(tensorrt: Any) -> None:
    frames = [np.full((4, 4, 3), value, np.uint8) for value in range(5)]
    batches = conversion.CalibrationBatches(frames, torch.Tensor.float, 2)
    assert len(batches) == 2 and batches._frames is frames
    places = set()
    for index in range(2):
        (images,) = batches[index]
        assert images[:, 0, 0, 0].tolist() == [2 * index, 2 * index + 1]
        places.add(images.data_ptr())
    assert len(places) == 1
    with pytest.raises(IndexError):
        batches[2]
    assert (
        conversion.CalibrationBatches(frames[:1], torch.Tensor.float, 2)[0][0].tolist()
        == [frames[0].tolist()] * 2
    )
    failing = conversion.CalibrationBatches(frames, lambda images: images / torch.ones(3, 2), 1)
    with pytest.raises(RuntimeError):
        failing[0]
    assert failing.error is not None


@only_10
def test_int8_without_frames_names_what_builds_this_engine(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch2trt", ModuleType("torch2trt"))
    sentence = (
        f"--model {small_model.path} --engine torch2trt --precision int8 --width 96 --height 64 --batch 2"
        " --calibrate-images FOLDER"
    )
    with pytest.raises(EngineUnavailable, match=sentence):
        engine.Torch2TRTEngine(small_model, "int8").prepare(2, 64, 96)


@only_10
def test_gpus_of_one_name_have_engines_of_their_own(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch2trt", ModuleType("torch2trt"))

    def key() -> str:
        return engine.Torch2TRTEngine(small_model, "fp16")._key(1, 64, 96).folder_name

    names = [key(), key()]
    nano = torch.cuda.get_device_properties(0)
    for changed in ({"multi_processor_count": 16}, {"total_memory": 64 << 30}, {"major": 7}):
        other = SimpleNamespace(**{**vars(nano), **changed})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_, found=other: found)
        names.append(key())
    assert names[0] == names[1] and len(set(names)) == 4


def test_frames_for_calibration_are_not_ignored(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--engine", "torch2trt", "--precision", "fp16", "--calibrate-images", str(tmp_path)]
    assert main(["export", "--model", str(small_model.path), *arguments]) != 0
    assert "for int8, and --precision is fp16: take int8" in capsys.readouterr().err
