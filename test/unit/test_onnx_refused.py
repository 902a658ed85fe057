"""ONNX files that cannot become models: each is refused in one sentence, and nothing of it is left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from rt_segmentation.cli import main

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from support import foreign  # noqa: E402
from support.imported import NORMALISED, SIZE, refusal  # noqa: E402


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("made") / "free.onnx"
    return foreign.export(foreign.seeded(foreign.LRASPP()), path, SIZE).read_bytes()


@pytest.fixture
def net(tmp_path: Path, exported: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "net.onnx"
    path.write_bytes(exported)
    return path


def _add_output(model: Any) -> None:
    again = model.graph.output.add()
    again.CopyFrom(model.graph.output[0])
    again.name = "again"
    model.graph.node.append(onnx.helper.make_node("Identity", [model.graph.output[0].name], ["again"]))


def _add_custom(model: Any) -> None:
    last = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("Deform", [last], ["bent"], domain="their.ops"))
    model.graph.output[0].name = "bent"
    model.opset_import.append(onnx.helper.make_opsetid("their.ops", 1))


def _free_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "c"


def _integer_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


def _second_input(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("sizes", 1, [2]))


def _two_at_once(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _external(model: Any) -> None:
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, "gone.bin", 0, len(tensor.raw_data))
        tensor.ClearField("raw_data")


def _no_numbers(model: Any) -> None:
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "low_head.bias"]
    bias.raw_data = b"\xff" * len(bias.raw_data)


def _argmax(model: Any, kind: str = "ArgMax", more: int = 0) -> None:
    """Ids in the place of logits, from `more` on; of TopK the largest logits in the place of their ids."""
    from onnx import TensorProto, helper

    graph, whole = model.graph, TensorProto.INT64
    for name, value in (("one", 1), ("more", more)):
        graph.initializer.append(helper.make_tensor(name, whole, [1], [value]))
    inputs = {"ArgMax": ["out"], "TopK": ["out", "one"]}[kind]
    best = ["best", "ids"] if kind == "TopK" else ["ids"]
    graph.node.append(helper.make_node(kind, inputs, best, axis=1))
    graph.node.append(helper.make_node("Add", ["ids", "more"], ["shifted"]))
    name = {"TopK": "best"}.get(kind, "shifted" if more else "ids")
    kept = helper.make_tensor_value_info(name, TensorProto.FLOAT if kind == "TopK" else whole, [None] * 4)
    del graph.output[:]
    graph.output.append(kept)


@pytest.mark.parametrize(
    ("edit", "options", "words"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 99), (), "is of opset 99, and the library onnx"),
        (lambda m: setattr(m, "ir_version", 99), (), "has IR version 99"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 99), (), "are of type 99, which is none"),
        (_add_output, (), "has 2 outputs that may be the labels: 'out' (1, 11, "),
        (_add_output, ("--output-name", "more"), "has no output 'more'; there are out, again"),
        (_add_custom, (), "has operations that are not ONNX's: their.ops.Deform; export it without them"),
        (_free_input, (), "does not say where its channels are: give --layout nchw or --layout nhwc"),
        (_integer_input, (), "takes int64; images are float32, float16 or uint8"),
        (_second_input, (), "has 2 inputs ('images', 'sizes'); it must have one"),
        (_two_at_once, (), "batches of 2 images; export it for one"),
        (_external, (), "weights of ONNX file"),
        (None, ("--label-set", "cityscapes19"), "none has the 19 classes of label set cityscapes19"),
        (None, ("--layout", "nhwc"), "--layout is nhwc, but input 'images' is (?, 3, ?, ?)"),
        (None, ("--output", "labels"), "none has labels of the 11 classes"),
        (
            _argmax,
            ("--label-set", "cityscapes19"),
            "has ids of 11 classes, and label set cityscapes19 has 19",
        ),
        (lambda m: _argmax(m, more=1), (), "has id 11, and the 11 classes of label set camvid11 go from 0"),
        (lambda m: _argmax(m, "TopK"), (), "none has the 11 classes of label set camvid11"),
        (lambda m: _argmax(m, "TopK"), ("--output", "labels"), "has numbers that are not whole"),
        (None, ("--name", "\udcff"), r"model name '\xff' must be a text of one line, in UTF-8"),
        (None, ("--name", "n" * 250), "File name too long"),
        (None, ("--label-set", "gone"), "unknown label set 'gone'"),
        (None, ("--width", "96"), "--width and --height belong together"),
        (None, ("--scale", "1", "--mean", "0", "0", "0", "--std", "1", "1", "0"), "must be above 0"),
        (None, ("--mean", "123.7", "116.3", "103.5"), "as --scale 1"),
    ],
)
def test_what_cannot_be_used_is_named(
    edit: Any, options: tuple[str, ...], words: str, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if edit is not None:
        model = onnx.load(str(net))
        edit(model)
        net.write_bytes(model.SerializeToString())
    assert words in refusal(capsys, net, *NORMALISED, *options)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.97])
def test_a_truncated_file_is_named(keep: float, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = net.read_bytes()
    net.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    assert "net.onnx is no ONNX file, or is truncated" in refusal(capsys, net, *NORMALISED)


def test_what_the_file_does_not_say_is_asked_for(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not say how images are normalised: give --mean and --std" in refusal(capsys, net)
    assert "--mean and --std belong together" in refusal(capsys, net, *NORMALISED[:4])
    arguments = ["models", "import", str(net), "--name", "x", "--out", str(net.parent)]
    assert main(arguments) == 2
    assert "no ONNX file names its classes: give --label-set" in capsys.readouterr().err
    assert main([*arguments[:2], str(net.parent / "x.pth"), *arguments[3:], "--order", "bgr"]) == 2
    assert "--order is for .onnx files" in capsys.readouterr().err


def test_without_the_library_it_is_named(
    net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "needs the Python package 'onnx': pip install onnx" in refusal(capsys, net, *NORMALISED)


def test_external_weights_that_are_cut_are_named(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(str(net))
    onnx.save_model(model, str(net), save_as_external_data=True, location="weights.bin", size_threshold=0)
    weights = net.parent / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    assert "net.onnx" in refusal(capsys, net, *NORMALISED)


@pytest.mark.parametrize("what", ["opset", "IR version"])
def test_a_version_that_only_the_runtime_does_not_know_is_named(
    what: str, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helper = onnx.helper
    images, labels = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 64, 96])
        for name, channels in (("images", 3), ("logits", 11))
    )
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, [11, 3, 1, 1], [0.1] * 33)
    conv = helper.make_node("Conv", ["images", "w"], ["logits"])
    graph = helper.make_graph([conv], "newest", [images], [labels], [weights])
    opset = onnx.defs.onnx_opset_version() if what == "opset" else 17
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8 if what == "opset" else onnx.IR_VERSION
    try:
        runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:
        net.write_bytes(model.SerializeToString())
    else:
        pytest.skip("the installed ONNX Runtime knows all that the installed onnx does")
    sentence = refusal(capsys, net, *NORMALISED)
    assert f"the graph's {what} is above " in sentence
    assert "knows: export it with opset 17, or install a newer onnxruntime" in sentence
