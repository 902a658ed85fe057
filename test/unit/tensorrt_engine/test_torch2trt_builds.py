"""The engine torch2trt with torch2trt itself, on a stand-in for TensorRT; skipped without torch2trt."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.cli import main
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference import cache
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.engines import torch2trt_conversion as conversion
from rt_segmentation.inference.engines import torch2trt_engine as engine
from rt_segmentation.inference.engines.interface import Shape
from rt_segmentation.inference.engines.tensorrt_body import TensorRTBody
from rt_segmentation.inference.network import load_network
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest
from rt_segmentation.networks import build_network

HEIGHT, WIDTH = 50, 70

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch2trt") is None,
    reason="torch2trt cannot be imported: a checkout of it on PYTHONPATH will do",
)
only_10 = pytest.mark.parametrize("tensorrt", ["10"], indirect=True)


def frames_of(count: int) -> list[np.ndarray]:
    return [StreetScene(seed, WIDTH, HEIGHT).render(0.0)[0] for seed in range(1, count + 1)]


def reference(manifest: ModelManifest, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        top, labels = load_network(manifest)(pixels).softmax(1).max(1)
    return labels.numpy(), top.numpy()


def made(manifest: ModelManifest, precision: str, **options: Any) -> engine.Torch2TRTEngine:
    return engine.Torch2TRTEngine(manifest, precision, Gate(half=0.9, int8=0.3), **options)


def forbid_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.Torch2TRTEngine, "_build", lambda *_: pytest.fail("it builds again"))


@pytest.mark.parametrize(("precision", "share"), [("fp32", 0.999), ("fp16", 0.95), ("int8", 0.4)])
def test_build_cache_reload_and_labels(
    precision: str,
    share: float,
    small_model: ModelManifest,
    tensorrt: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[Any] = []
    load = tensorrt.Runtime.deserialize_cuda_engine

    def counted(self: Any, data: bytes) -> Any:
        loaded.append(data)
        return load(self, data)

    frames = frames_of(4)
    images = np.stack(frames[:2])
    labels, top = reference(small_model, images)
    calibration = {"calibration": frames} if precision == "int8" else {}
    for built in (True, False):
        made_engine = made(small_model, precision, **calibration)
        if not built:
            forbid_building(monkeypatch)
            monkeypatch.setattr(tensorrt.Runtime, "deserialize_cuda_engine", counted)
        alone, none = made_engine.infer(images, False)
        found, confidence = made_engine.infer(images, True)
        assert none is None and confidence is not None
        assert (found == labels).mean() > share
        np.testing.assert_array_equal(found, alone)
        if precision != "int8":
            assert np.abs(confidence / 255 - top).mean() < 0.02
        kept = found.copy()
        swapped, _ = made_engine.infer(images[::-1].copy(), True)
        np.testing.assert_array_equal(swapped[::-1], kept)
        np.testing.assert_array_equal(found, kept)
    assert len(loaded) == 1, "runs with and without confidence share an engine"


@only_10
def test_an_engine_goes_with_its_runners(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_engine = made(small_model, "fp16")
    made_engine.prepare(1, HEIGHT, WIDTH)
    assert len(made_engine._networks) == 1
    made_engine._runners.clear()
    assert not made_engine._networks


@pytest.mark.parametrize("dla", [None, "0"])
def test_a_start_that_fails_is_no_labels(
    dla: str | None, small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = (
        "execute_async_v2" if hasattr(tensorrt.IExecutionContext, "execute_async_v2") else "execute_async_v3"
    )
    if dla is not None:
        monkeypatch.setenv(engine.DLA_VARIABLE, dla)
    images = np.stack(frames_of(1))
    made_engine = made(small_model, "fp16")
    if dla is not None:
        # What runs on a DLA is not recorded: it is started for every frame.
        made_engine.infer(images, False)
    monkeypatch.setattr(tensorrt.IExecutionContext, start, lambda *_: False)
    with pytest.raises(EngineError, match="refuses to run the engine"):
        made_engine.infer(images, False)


def test_no_memory_to_run_in_is_said(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt.ICudaEngine, "create_execution_context", lambda self: None)
    with pytest.raises(EngineError, match="has no memory to run the engine in"):
        made(small_model, "fp16").prepare(1, HEIGHT, WIDTH)


@only_10
def test_int8_on_a_dla_has_the_calibrator_that_it_takes(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(engine.DLA_VARIABLE, "0")
    made_engine = made(small_model, "int8", calibration=frames_of(2))
    labels, _ = made_engine.infer(np.stack(frames_of(1)), False)
    assert labels.shape == (1, HEIGHT, WIDTH)


@only_10
def test_other_frames_calibrate_anew_and_are_judged_anew(small_model: ModelManifest, tensorrt: Any) -> None:
    frames = frames_of(2)
    verdicts, engines = [], []
    for calibration in (frames[:1], frames[:1], [], frames[1:], []):
        made_engine = made(small_model, "int8", calibration=calibration)
        made_engine.prepare(1, HEIGHT, WIDTH)
        source: Any = made_engine.source(1, HEIGHT, WIDTH)
        verdicts.append(made_engine._verdict_key(source, Shape(1, HEIGHT, WIDTH, False)).folder_name)
        engines.append(source.body.sha256)
    for found in (verdicts, engines):
        assert found[0] == found[1] == found[2] != found[3] == found[4]


@only_10
def test_frames_that_cannot_be_given_end_the_build(
    small_model: ModelManifest, tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = conversion.CalibrationBatches._on_gpu

    def fails_once(self: Any, index: int) -> torch.Tensor:
        if index == 1:
            raise RuntimeError("CUDA out of memory")
        return take(self, index)

    monkeypatch.setattr(conversion.CalibrationBatches, "_on_gpu", fails_once)
    with pytest.raises(EngineError, match="cannot be given to TensorRT: CUDA out of memory"):
        made(small_model, "int8", calibration=frames_of(3)).prepare(1, HEIGHT, WIDTH)
    assert not [entry for entry in cache.entries() if entry.key["kind"] == "tensorrt"]


@only_10
@pytest.mark.parametrize(
    ("name", "options"),
    [("linknet", {}), ("linknet", {"upsampling": "sub_pixel"}), ("enet", {}), ("lednet", {}), ("segnet", {})],
)
def test_networks_keep_their_values(name: str, options: dict[str, Any], tensorrt: Any) -> None:
    import torch2trt

    torch.manual_seed(0)
    network = deploy(build_network(name, 5, **options).eval(), HEIGHT, WIDTH)
    images = torch.rand(1, *network.padded_shape)
    with torch.no_grad():
        expected = network.body(images)
        conversion.register_converters(torch2trt)
        module = conversion.Conversion(network.body, torch2trt, tensorrt, "fp32", name)
        converted = torch2trt.torch2trt(
            **conversion.conversion_arguments(tensorrt, module, images.clone(), "fp32", None, None)
        )
    body = TensorRTBody(network.body, bytes(converted.engine.serialize()), None)
    torch.testing.assert_close(body(images), expected, rtol=1e-3, atol=1e-4)
    slopes = sum(isinstance(module, nn.PReLU) for module in network.modules())
    kinds = [step.kind for step in body._engine._plan["steps"]]
    assert kinds.count("IParametricReLULayer") == slopes


@only_10
def test_frames_for_calibration_mean_int8(
    small_model: ModelManifest, tensorrt: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, frame in enumerate(frames_of(2)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    arguments = ["--model", str(small_model.path), "--width", str(WIDTH), "--height", str(HEIGHT)]
    arguments += ["--engine", "torch2trt", "--calibrate-images", str(tmp_path), "--calibrate-frames", "2"]
    # Random weights in int8 are far from torch's: the gate says which precision was built.
    assert main(["export", *arguments]) != 0
    assert "engine 'torch2trt' in int8 gives" in capsys.readouterr().err


def converted(call: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Any:
    """What torch2trt alone makes of a call, without our converters."""
    import torch2trt

    class Called(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return call(images)

    with torch.no_grad():
        return torch2trt.torch2trt(Called().eval(), [images.clone()])


def test_known_errors_are_as_the_page_says(tensorrt: Any) -> None:
    images = torch.rand(1, 2, 8, 8)
    # Of two channels three are made, the other way round it has two.
    unequal, equal = torch.rand(2, 3, 3, 3), torch.rand(2, 2, 3, 3)
    assert converted(lambda x: F.conv_transpose2d(x, unequal, stride=2), images).engine is None
    engine_built = converted(lambda x: F.conv_transpose2d(x, equal, stride=2, output_padding=1), images)
    assert engine_built(images).shape == (1, 2, 17, 17), "the output padding is dropped: it should be 18"
    # It says nothing of the input that it has lost: the engine computes a constant.
    twice = converted(lambda x: x.float() * 2, torch.ones(1, 2, 8, 8, dtype=torch.uint8))
    assert twice.engine.num_io_tensors == 1

    def six(x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, 1)) + torch.ones(1, 3, 8, 8)

    if hasattr(tensorrt.INetworkDefinition, "add_padding"):
        assert converted(six, images).engine is None, "the sum of two and three channels"
    else:
        with pytest.raises(AttributeError, match="add_padding"):
            converted(six, images)
