"""int8: ranges found once on real frames are enough, at any size, without the data and without NNCF."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

import onnx
import openvino
from support.streets import street_scene

from rt_segmentation.cli import build_parser
from rt_segmentation.commands import export as command
from rt_segmentation.inference import cache
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, build_engine, calibrate
from rt_segmentation.inference.engines.export import (
    LABELS_ONLY,
    WITH_CONFIDENCE,
    graph_entry,
    onnx_model,
)
from rt_segmentation.inference.engines.interface import Shape
from rt_segmentation.inference.engines.openvino_engine import OpenVINOEngine, compile_graph
from rt_segmentation.inference.engines.openvino_int8.places import with_bytes_between, without_convolutions
from rt_segmentation.inference.engines.openvino_int8.ranges import (
    QuantizationRanges,
    compared_logits,
    load_ranges,
    normalisation,
    quantize,
    ranges_path,
)
from rt_segmentation.inference.engines.openvino_kernels import executed_kernels, in_float
from rt_segmentation.inference.options import EVERY_LAYER, FLOAT, PLAIN, Options
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest, find_model, list_models, read_manifest

HEIGHT, WIDTH = 120, 160
MOVES = ("Concatenation", "Split", "ShuffleChannels")
"""OpenVINO's names of layers that cut, join and shuffle."""


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def calibrated(
    small_model: ModelManifest, cache_home: None, tmp_path_factory: pytest.TempPathFactory
) -> ModelManifest:
    """A copy of the small model with ranges, found by the command on a folder of streets."""
    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("calibrated")
    for path in (small_model.path, small_model.weights_path):
        shutil.copy(path, folder)
    manifest = read_manifest(folder / small_model.path.name)
    images = folder / "images"
    images.mkdir()
    for seed in range(4):
        cv2.imwrite(str(images / f"{seed}.png"), street(seed)[..., ::-1])
    wanted = ["--calibrate-images", str(images), "--calibrate-frames", "3"]
    command.write_ranges(
        manifest, build_parser().parse_args(["export", "--model", "small", *wanted]), WIDTH, HEIGHT
    )
    return manifest


@pytest.fixture(scope="module")
def shipped() -> ModelManifest:
    return find_model("enet")


@pytest.fixture()
def copied(calibrated: ModelManifest, tmp_path: Path) -> ModelManifest:
    """A copy whose ranges a test may change."""
    for path in (calibrated.path, calibrated.weights_path, ranges_path(calibrated)):
        shutil.copy(path, tmp_path)
    return read_manifest(tmp_path / calibrated.path.name)


def street(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return street_scene(seed, width, height).render(0.0)[0]


def read_graph(manifest: ModelManifest, file: str = LABELS_ONLY) -> openvino.Model:
    """Of a size that no manifest has, padded for every network."""
    return openvino.Core().read_model(str(graph_entry(manifest, 1, 75, 100).file(file)))


def rewrite(manifest: ModelManifest, **changes: Any) -> None:
    path = ranges_path(manifest)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_ranges_are_found_on_a_bag(
    copied: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rosbags")
    from support.street_bags import street_bag

    before = load_ranges(copied)
    bag = street_bag(tmp_path / "bag", 4)
    wanted = ["--calibrate-bag", str(bag), "--image-topic", "camera", "--calibrate-frames", "2"]
    command.write_ranges(
        copied, build_parser().parse_args(["export", "--model", "small", *wanted]), WIDTH, HEIGHT
    )
    ranges = load_ranges(copied)
    assert (ranges.found["frames"], ranges.found["of"]) == (2, "a bag")
    assert ranges.tensors.keys() == before.tensors.keys() and ranges.digest != before.digest
    assert "found on 2 frames of a bag" in capsys.readouterr().out


def test_the_file_is_small_and_says_where_it_comes_from(calibrated: ModelManifest) -> None:
    ranges = load_ranges(calibrated)
    assert ranges.weights_sha256 == calibrated.sha256 and ranges.found["frames"] == 3
    assert normalisation(calibrated).items() <= ranges.found.items()
    assert len(ranges.convolutions) > 50
    assert all(name.endswith(".weight") for name in ranges.convolutions)
    assert ranges_path(calibrated).stat().st_size < 40_000


@pytest.mark.parametrize(("width", "height"), [(WIDTH, HEIGHT), (150, 110)], ids=["fits", "padded"])
def test_labels_are_almost_torchs_at_any_size_without_nncf(
    shipped: ModelManifest, monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    frame = street(9, width, height)[None]
    # Frames that are so small have more edges than those of the default threshold.
    labels, confidence = build_engine(shipped, "openvino", "int8", Gate(int8=0.93)).infer(frame, True)
    expected, probability = build_engine(shipped, "torch", "fp32").infer(frame, True)
    assert 0.93 < (labels == expected).mean() < 1
    assert confidence is not None and probability is not None
    assert np.abs(confidence.astype(int) - probability).mean() < 8


def test_onnx_runtime_computes_in_int8_by_the_same_ranges(copied: ModelManifest) -> None:
    pytest.importorskip("onnxruntime")
    frame, gate = street(9)[None], Gate(int8=0.0)
    kinds = (("onnxruntime", "int8"), ("onnxruntime", "fp32"))
    labels, exact = (build_engine(copied, *kind, gate).infer(frame, False)[0] for kind in kinds)
    # As the graph is, and not as it is set for this processor.
    plain = OpenVINOEngine(copied, "int8", gate).trial(
        Shape(1, frame.shape[1], frame.shape[2], False), Options()
    )
    of_openvino = plain(frame)[0]
    # Of random weights: many pixels are close calls.
    assert (labels == of_openvino).mean() > 0.7 and (labels != exact).any()
    # Another file of ranges is another graph.
    rewrite(copied, tensors={name: [-1e-3, 1e-3] for name in load_ranges(copied).tensors})
    others, _ = build_engine(copied, "onnxruntime", "int8", gate).infer(frame, False)
    assert (others != labels).mean() > 0.1


@pytest.mark.long
def test_onnx_runtime_gives_openvinos_labels_and_needs_no_onnx_the_second_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    linknet, frame, gate = find_model("linknet"), street(9)[None], Gate(int8=0.93)
    engine = build_engine(linknet, "onnxruntime", "int8", gate)
    labels, confidence = engine.infer(frame, True)
    (of_openvino, _), (expected, probability) = (
        build_engine(linknet, *kind, gate).infer(frame, True)
        for kind in (("openvino", "int8"), ("torch", "fp32"))
    )
    assert (labels == expected).mean() > 0.97 and (labels == of_openvino).mean() > 0.97
    assert (labels != expected).any()
    assert confidence is not None and probability is not None
    assert np.abs(confidence.astype(int) - probability).mean() < 8
    # What the library makes of the graph: almost all of its 35 convolutions and 5 others are of integers.
    made = [entry for entry in cache.entries() if entry.key["kind"] == "onnxruntime-int8"]
    assert len(made) == 2
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(made[0].read("int8.onnx"), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert sum(node.op_type == "QLinearConv" for node in nodes) >= 29
    monkeypatch.setitem(sys.modules, "onnx", None)
    again, _ = build_engine(linknet, "onnxruntime", "int8", gate).infer(frame, True)
    np.testing.assert_array_equal(again, labels)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have kernels of other names")
def test_what_is_quantised_is_computed_in_int8(shipped: ModelManifest) -> None:
    model = read_graph(shipped)
    quantize(model, load_ranges(shipped), shipped)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kernels = [i["primitiveType"].astype(str) for i in infos if i["layerType"].astype(str) == "Convolution"]
    assert len(kernels) > 50 and all(kernel.upper().endswith("_I8") for kernel in kernels)


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have kernels of other names")
def test_maps_stay_bytes_between_the_convolutions_where_that_is_asked_for() -> None:
    manifest = find_model("lednet")
    frames = np.stack([street(seed, 100, 75) for seed in range(2)])
    labels, moved = [], []
    for options in (PLAIN, Options(bytes_between=True)):
        engine = OpenVINOEngine(manifest, "int8", Gate(int8=0.0))
        labels.append(engine.trial(Shape(2, 75, 100, False), options)(frames)[0])
        graph = onnx_model(graph_entry(manifest, 1, 75, 100), LABELS_ONLY)
        compiled = compile_graph(graph, manifest, "int8", load_ranges(manifest), tuned=options)
        infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        moves = [i for i in infos if i["layerType"].astype(str) in MOVES]
        moved.append([i["runtimePrecision"].astype(str) for i in moves])
    assert (labels[0] == labels[1]).mean() > 0.97
    in_bytes = [sum(precision in ("u8", "i8") for precision in found) for found in moved]
    assert in_bytes[0] <= 1 and in_bytes[1] == len(moved[1]) >= 20


def test_maps_that_meet_have_one_range_and_what_does_not_exist_is_left_to_be_told() -> None:
    manifest = find_model("lednet")
    model, ranges = read_graph(manifest), load_ranges(manifest)
    between = with_bytes_between(model, ranges)
    # Both ReLUs of a unit, whose halves the next one's convolutions mix.
    left, right = (
        between.tensors[f"/body/encoder/encoder.13/{name}_output_0"] for name in ("Relu", "Relu_1")
    )
    read = [ranges.inputs[f"network.body.encoder.15.{side}.0.weight:0"] for side in ("left", "right")]
    assert left == right == (0.0, max(high for _, high in read))
    assert set(between.inputs) < set(ranges.inputs) and set(between.tensors) > set(ranges.tensors)
    # The image's range is that of the first convolution alone.
    assert "network.body.encoder.0.conv.weight:0" in between.inputs
    quantize(read_graph(manifest), between, manifest)
    other = replace(ranges, inputs={"no.weight:0": (0.0, 1.0)})
    assert "no.weight:0" in with_bytes_between(model, other).inputs
    # Networks that add and join nothing but what is bytes stay as they are.
    linknet = find_model("linknet")
    assert with_bytes_between(read_graph(linknet), load_ranges(linknet)).tensors.keys() == set(
        load_ranges(linknet).tensors
    )


def test_a_group_of_layers_is_left_out_of_int8(shipped: ModelManifest) -> None:
    model, ranges = read_graph(shipped), load_ranges(shipped)
    group = "1x1 32>128 10x13"
    weights = in_float(model, [(EVERY_LAYER, "jit_avx512"), (group, FLOAT)])
    assert len(weights) == 16 and in_float(model, [(group, FLOAT), (EVERY_LAYER, "jit_avx512")]) == []
    left = without_convolutions(model, ranges, weights)
    assert set(ranges.convolutions) - set(left.convolutions) == set(weights)
    # What other layers read stays rounded.
    assert 0 < len(ranges.tensors) - len(left.tensors) <= 16
    quantize(model, left, shipped)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kernels = list(executed_kernels(compiled).values())
    assert sum(not kernel.upper().endswith("_I8") for kernel in kernels) == 16


@pytest.mark.parametrize(("name", "as_bytes"), [("enet", True), ("linknet", True), ("lednet", False)])
def test_logits_are_compared_as_bytes_where_nothing_else_uses_them(name: str, as_bytes: bool) -> None:
    manifest = find_model(name)
    ranges = load_ranges(manifest)
    assert (ranges.top_logit is not None) == as_bytes
    model = read_graph(manifest)
    assert (compared_logits(model) is not None) == as_bytes
    quantize(model, ranges, manifest)
    (compared,) = [node for node in model.get_ops() if node.get_type_name() == "TopK"]
    assert (compared.get_input_element_type(0) == openvino.Type.u8) == as_bytes
    assert compared_logits(read_graph(manifest, WITH_CONFIDENCE)) is None


def test_a_top_logit_below_the_range_is_no_label(copied: ModelManifest) -> None:
    """The file's range is what is used: far above all logits it leaves every pixel the first class."""
    assert load_ranges(copied).top_logit is not None
    rewrite(copied, top_logit=[1e6, 2e6])
    model = read_graph(copied)
    quantize(model, load_ranges(copied), copied)
    labels = openvino.Core().compile_model(model, "CPU")([street(3, 100, 75)[None]])[0]
    assert not labels.any()


def test_ranges_that_change_are_judged_again(copied: ModelManifest) -> None:
    build_engine(copied, "openvino", "int8", Gate(int8=0.0)).prepare(1, HEIGHT, WIDTH)
    tensors = json.loads(ranges_path(copied).read_text())["tensors"]
    rewrite(copied, tensors={name: [-1e-3, 1e-3] for name in tensors})
    engine = build_engine(copied, "openvino", "int8")
    with pytest.raises(EngineError, match=r"engine 'openvino' in int8 gives .* 97\.0% is needed"):
        engine.prepare(1, HEIGHT, WIDTH)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_model_without_ranges_says_how_to_find_them(engine: str, small_model: ModelManifest) -> None:
    with pytest.raises(EngineUnavailable, match=r"no int8 ranges .*small\.int8\.json; `rt_seg export"):
        build_engine(small_model, engine, "int8")


def test_ranges_of_another_normalisation_are_refused(small_model: ModelManifest, tmp_path: Path) -> None:
    model = replace(small_model, path=tmp_path / "small.yaml")
    ranges = QuantizationRanges({}, {}, (), model.sha256, normalisation(model))
    ranges_path(model).write_bytes(ranges.to_json())
    assert load_ranges(model) == ranges
    with pytest.raises(EngineError, match=r"were found with mean \[0.0, .*, and model 'small' has \[0.5"):
        load_ranges(replace(model, mean=(0.5, 0.5, 0.5)))
    ranges_path(model).write_bytes(replace(ranges, found={}).to_json())
    assert load_ranges(replace(model, mean=(0.5, 0.5, 0.5))).found == {}


def test_ranges_of_other_weights_are_refused(copied: ModelManifest) -> None:
    with pytest.raises(EngineError, match="found with other weights than model 'small' has"):
        load_ranges(replace(copied, sha256="0" * 64))


def test_the_command_that_is_named_finds_the_model_that_has_no_ranges(
    copied: ModelManifest, shipped: ModelManifest
) -> None:
    ranges_path(copied).unlink()
    with pytest.raises(EngineUnavailable) as refusal:
        load_ranges(copied)
    assert f"--model {shlex.quote(str(copied.path))} --precision int8" in str(refusal.value)
    with pytest.raises(EngineError, match=f"--model {shipped.name} --precision int8"):
        load_ranges(replace(shipped, sha256="0" * 64))


@pytest.mark.parametrize("content", ["{", "[]", '{"tensors": {}}', '{"tensors": {"a": [1, 1]}}'])
def test_damaged_ranges_are_one_sentence(copied: ModelManifest, content: str) -> None:
    ranges_path(copied).write_text(content)
    with pytest.raises(EngineError, match=r"int8 ranges .*small\.int8\.json cannot be read"):
        load_ranges(copied)


def test_ranges_of_another_graph_are_one_sentence(copied: ModelManifest) -> None:
    rewrite(copied, tensors={"/no/such_output_0": [0.0, 1.0]})
    with pytest.raises(EngineError, match=r"do not fit the graph: 1 names are not in it \(first '/no/such"):
        quantize(read_graph(copied), load_ranges(copied), copied)


@pytest.mark.parametrize("name", ["torch"])
def test_an_engine_without_int8_cannot_be_calibrated(name: str, small_model: ModelManifest) -> None:
    pytest.importorskip(name)
    with pytest.raises(
        EngineUnavailable,
        match=f"engine '{name}' has no int8 .*; onnxruntime, openvino, tensorrt and torch2trt",
    ):
        calibrate(small_model, name, lambda height, width: ([], "nothing"), 1, HEIGHT, WIDTH)


@pytest.mark.parametrize("manifest", list_models(), ids=lambda manifest: manifest.name)
def test_shipped_models_have_ranges_that_fit(manifest: ModelManifest) -> None:
    quantize(read_graph(manifest), load_ranges(manifest), manifest)
