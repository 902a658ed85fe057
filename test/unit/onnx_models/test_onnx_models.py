"""Anybody's ONNX graph as a model: imported, run as its own pipeline runs it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import rt_segmentation as rt
from rt_segmentation.cli import main
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, build_engine
from rt_segmentation.models import ModelManifest, find_model

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from support import foreign  # noqa: E402
from support.imported import NORMALISED, SIZE, imported, refusal, write  # noqa: E402

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Case:
    """A network, how it is exported, what its user must say, and what the manifest says then."""

    network: Any
    export: dict[str, Any]
    options: tuple[str, ...]
    interface: dict[str, Any]


CASES = {
    "lraspp": Case(foreign.LRASPP, {}, (), {"gives": "logits", "fixed_size": False, "fixed_batch": False}),
    "lraspp_fixed": Case(foreign.LRASPP, {"free": False}, (), {"fixed_size": True, "fixed_batch": True}),
    "lraspp_bgr_opset_11": Case(foreign.LRASPP, {"opset": 11}, ("--order", "bgr"), {"order": "bgr"}),
    "bisenet_several": Case(
        foreign.BiSeNetV2, {"names": ("out", "auxiliary")}, ("--output-name", "out"), {"output": "out"}
    ),
    "bisenet_probabilities": Case(
        lambda: foreign.BiSeNetV2("probabilities"), {}, (), {"gives": "probabilities"}
    ),
    "bisenet_labels": Case(
        lambda: foreign.BiSeNetV2("labels"), {}, (), {"gives": "labels", "output_layout": "nhw"}
    ),
    "segformer": Case(foreign.SegFormer, {}, (), {"gives": "logits", "layout": "nchw"}),
    "segformer_nhwc_fixed": Case(
        lambda: foreign.SegFormer(nhwc=True),
        {"nhwc": True, "free": False},
        (),
        {"layout": "nhwc", "output_layout": "nhwc"},
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Case, nn.Module, ModelManifest]:
    case = CASES[request.param]
    network = foreign.seeded(case.network())
    path = foreign.export(network, tmp_path_factory.mktemp("net") / "net.onnx", SIZE, **case.export)
    size = [] if case.export.get("free") is False else ["--width", str(SIZE[0]), "--height", str(SIZE[1])]
    return case, network, imported(path, request.param, *NORMALISED, *size, *case.options)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_labels_are_those_of_its_own_pipeline(
    engine: str, model: tuple[Case, nn.Module, ModelManifest], frames: np.ndarray
) -> None:
    pytest.importorskip(engine)
    case, network, manifest = model
    assert manifest.onnx is not None and manifest.network == ""
    assert {key: getattr(manifest.onnx, key) for key in case.interface} == case.interface
    wanted = foreign.expected(
        network, frames, case.export.get("nhwc", False), bgr=case.interface.get("order") == "bgr"
    )
    assert len(np.unique(wanted)) >= 3
    built = build_engine(manifest, engine, "fp32")
    labels, confidence = built.infer(frames, True)
    assert labels.shape == wanted.shape and labels.dtype == np.uint8
    assert np.mean(labels == wanted) >= 0.999
    if case.interface.get("gives") == "labels":
        assert confidence is None
    else:
        assert confidence is not None and confidence.dtype == np.uint8 and confidence.shape == labels.shape
        assert confidence.min() >= 255 // foreign.CLASSES and len(np.unique(confidence)) > 5


def test_a_fixed_size_is_the_only_one(fixed: ModelManifest, lraspp: nn.Module, frames: np.ndarray) -> None:
    assert fixed.fixed_size == SIZE
    segmenter = rt.Segmenter(fixed.path, "onnxruntime")
    # Of another shape: by its aspect ratio the network would see it wider.
    wide = np.ascontiguousarray(np.tile(frames[0], (1, 2, 1)))
    result = segmenter(wide, confidence=True)
    assert result.labels.shape == wide.shape[:2] and result.placement.network == SIZE
    exact = segmenter(frames[0])
    assert np.mean(exact.labels == foreign.expected(lraspp, frames[:1])[0]) >= 0.999
    with pytest.raises(EngineError, match="takes images of 96x64 alone, not of 128x96"):
        rt.Segmenter(fixed.path, "onnxruntime", input_size=(128, 96))(frames[0])


def test_text_that_is_not_utf_8_is_kept_as_text(net: Path) -> None:
    path = net.rename(net.with_name(os.fsdecode(b"caf\xe9.onnx")))
    size = ("--width", str(SIZE[0]), "--height", str(SIZE[1]))
    manifest = imported(path, "model", *NORMALISED, *size, "--license", os.fsdecode(b"\xa9 them"))
    assert (manifest.license, manifest.training["imported_from"]) == (r"\xa9 them", r"caf\xe9.onnx")


def test_pytorchs_engines_say_that_they_cannot(fixed: ModelManifest) -> None:
    for engine in ("torch", "torch2trt"):
        with pytest.raises(EngineUnavailable, match=f"'{engine}' cannot run model 'fixed': .*ONNX graph;"):
            build_engine(fixed, engine)
    assert build_engine(fixed).name in ("openvino", "onnxruntime")


def test_labels_alone_have_no_confidence(
    folder: Path, frames: np.ndarray, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    network = foreign.seeded(foreign.BiSeNetV2("labels"))
    foreign.export(network, folder / "ids.onnx", SIZE, free=False)
    manifest = imported(folder / "ids.onnx", "ids", *NORMALISED)
    assert "there is no confidence" in capsys.readouterr().err
    assert not manifest.has_confidence
    assert rt.Segmenter(manifest, "onnxruntime")(frames[0], confidence=True).confidence is None
    image = tmp_path / "image.png"
    write(image, frames[0])
    options = ["--engine", "onnxruntime", "--save", "confidence", "--out", str(tmp_path / "out")]
    assert main(["segment", str(image), "--model", str(manifest.path), *options]) == 2
    assert "has no confidence to save" in capsys.readouterr().err


def test_bytes_scaled_are_the_same_as_means_of_zero_to_one(net: Path) -> None:
    caffe = ["--scale", "1", "--mean", "123.675", "116.28", "103.53", "--std", "58.395", "57.12", "57.375"]
    manifest = imported(net, "scaled", *caffe)
    assert manifest.mean == pytest.approx(foreign.MEAN) and manifest.std == pytest.approx(foreign.STD)


def test_sizes_are_padded_where_only_multiples_work(folder: Path, frames: np.ndarray) -> None:
    class Even(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """Halves and doubles three times, and adds: other sides than multiples of 8 do not fit."""

        def __init__(self) -> None:
            super().__init__()
            self.down = foreign._conv(3, 8, 8)
            self.up = torch.nn.ConvTranspose2d(8, 11, 8, 8)
            self.flat = torch.nn.Conv2d(3, 11, 3, padding=1)

        def forward(self, images: Any) -> Any:
            return self.up(self.down(images)) + self.flat(images)

    network = foreign.seeded(Even())
    path = foreign.export(network, folder / "even.onnx", SIZE)
    manifest = imported(path, "even", *NORMALISED, "--width", "96", "--height", "64")
    assert manifest.onnx is not None and manifest.onnx.multiple == 8
    odd = np.ascontiguousarray(frames[:, :60, :90])
    labels = build_engine(manifest, "onnxruntime").infer(odd, False)[0]
    pixels = (torch.from_numpy(odd).float() / 255 - torch.tensor(foreign.MEAN)) / torch.tensor(foreign.STD)
    with torch.inference_mode():
        padded = torch.nn.functional.pad(pixels.permute(0, 3, 1, 2), (0, 6, 0, 4))
        wanted = network(padded).argmax(1)[:, :60, :90].numpy()
    assert np.mean(labels == wanted) >= 0.999


def test_a_graph_for_one_image_runs_batches(
    fixed: ModelManifest, lraspp: nn.Module, frames: np.ndarray
) -> None:
    assert fixed.onnx is not None and fixed.onnx.fixed_batch
    labels, confidence = build_engine(fixed, "onnxruntime").infer(frames, True)
    assert confidence is not None and confidence.shape == frames.shape[:3]
    assert np.mean(labels == foreign.expected(lraspp, frames)) >= 0.999


def test_check_shows_every_way_to_normalise(
    fixed: ModelManifest, frames: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "images" / "a.png", frames[0])
    picture = tmp_path / "ways.png"
    capsys.readouterr()
    assert main(["models", "check", str(fixed.path), str(tmp_path / "images"), "--out", str(picture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # The manifest's own way is ImageNet's, which is shown once.
    assert len(lines) == 1 + 12 + 1 and lines[1].startswith("manifest rgb")
    confidence, smoothness = map(float, lines[1].split()[-2:])
    assert 1 / 11 < confidence <= 1 and 0 < smoothness <= 1
    assert picture.is_file()
    assert main(["models", "check", "enet", str(tmp_path), "--out", str(picture)]) == 2
    assert "whose normalisation is known" in capsys.readouterr().err
    assert main(["models", "check", str(fixed.path), str(tmp_path / "no"), "--out", str(picture)]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_it_is_shown_as_other_models(fixed: ModelManifest, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["models", "show", str(fixed.path)]) == 0
    text = capsys.readouterr().out
    assert "ONNX graph: rgb nchw images of this size alone" in text and "sha256 ok" in text
    assert main(["models", "show", str(fixed.path), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["onnx"]["gives"] == "logits" and content["published"] == [] and content["gmacs"] > 0
    fixed_copy = fixed.path.with_name("damaged.yaml")
    fixed_copy.write_text(fixed.path.read_text().replace(fixed.sha256, "0" * 64))
    with pytest.raises(ValueError, match="sha256"):
        build_engine(find_model(fixed_copy), "onnxruntime")


def test_commands_take_it_as_any_model(
    fixed: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ["--engine", "onnxruntime"]
    assert main(["export", "--model", str(fixed.path), *engine, "--out", str(tmp_path / "graph")]) == 0
    assert "engine onnxruntime in fp32" in capsys.readouterr().out
    exported = onnx.load(str(tmp_path / "graph" / "network.onnx"))
    assert [value.name for value in exported.graph.output] == ["labels", "confidence"]
    street = ["--dataset", "street", "--option", "scenes=1", "--option", "frames_per_scene=1"]
    assert main(["evaluate", "--model", str(fixed.path), *engine, *street]) == 0
    assert "fixed on street" in capsys.readouterr().out
    assert main(["export", "--model", str(fixed.path), "--engine", "torch"]) == 2
    assert "engine 'torch' cannot run model 'fixed'" in capsys.readouterr().err
    assert main(["export", "--model", str(fixed.path), *engine, "--width", "128"]) == 2
    assert "takes images of 96x64 alone, not of 128x64" in capsys.readouterr().err


def test_int8_leaves_depthwise_convolutions_as_they_are(
    folder: Path, frames: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    network = foreign.seeded(foreign.BiSeNetV2("probabilities"))
    foreign.export(network, folder / "eight.onnx", SIZE, free=False)
    manifest = imported(folder / "eight.onnx", "eight", *NORMALISED)
    for number, frame in enumerate(frames):
        write(tmp_path / f"{number}.png", frame)
    options = ["--engine", "openvino", "--precision", "int8", "--calibrate-images", str(tmp_path)]
    assert main(["export", "--model", str(manifest.path), *options]) == 0
    assert "engine openvino in int8" in capsys.readouterr().out
    labels = build_engine(manifest, "openvino", "int8").infer(frames, False)[0]
    assert np.mean(labels == foreign.expected(network, frames)) >= 0.97


def test_external_weights_are_merged(net: Path, lraspp: nn.Module, frames: np.ndarray) -> None:
    model = onnx.load(str(net))
    onnx.save_model(model, str(net), save_as_external_data=True, location="weights.bin", size_threshold=0)
    manifest = imported(net, "merged", *NORMALISED, "--width", "96", "--height", "64")
    (net.parent / "weights.bin").unlink()
    labels = build_engine(manifest, "onnxruntime").infer(frames, False)[0]
    assert np.mean(labels == foreign.expected(lraspp, frames)) >= 0.999


def _small_graph(path: Path, *nodes: Any) -> Path:
    """11 classes by one convolution, and what comes after it."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(11, 3, 3, 3)).astype(np.float32), "w")
    limits = [numpy_helper.from_array(np.float32(limit), name) for limit, name in ((0, "low"), (1, "high"))]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 11, "h", "w"])
    convolution = helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([convolution, *nodes], "g", [image], [scores], [weights, *limits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_softmax_is_one_whatever_its_numbers_pass(tmp_path: Path) -> None:
    from onnx import helper

    softmax = helper.make_node("Softmax", ["a"], ["p"], axis=1)
    clipped = helper.make_node("Clip", ["p", "low", "high"], ["y"])
    path = _small_graph(tmp_path / "net.onnx", softmax, clipped)
    manifest = imported(path, "clipped", *NORMALISED, "--width", "96", "--height", "64")
    assert manifest.onnx is not None and manifest.onnx.gives == "probabilities"


def test_branches_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from onnx import TensorProto, helper

    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("t", "e")]
    then = helper.make_graph([helper.make_node("Abs", ["a"], ["t"])], "then", [], made[:1])
    other = helper.make_graph([helper.make_node("Neg", ["a"], ["e"])], "other", [], made[1:])
    known = helper.make_node("Equal", ["low", "high"], ["c"])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    sentence = refusal(capsys, _small_graph(tmp_path / "net.onnx", known, branch), *NORMALISED)
    assert "has branches or loops (If), which cannot be imported" in sentence
