"""The engine tensorrt on a stand-in, whose parser executes with ONNX Runtime what TensorRT's takes."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from support import foreign  # noqa: E402

from rt_segmentation.cli import main  # noqa: E402
from rt_segmentation.data.synthetic import StreetScene  # noqa: E402
from rt_segmentation.inference.engines import (  # noqa: E402
    EngineError,
    EngineUnavailable,
    build_engine,
    choosing,
    cuda_driver,
)
from rt_segmentation.inference.engines.tensorrt_graph import for_tensorrt  # noqa: E402
from rt_segmentation.inference.parity import Gate  # noqa: E402
from rt_segmentation.models import ModelManifest, find_model  # noqa: E402

SIZE = (96, 64)
only_11 = pytest.mark.parametrize("onnx_tensorrt", ["11"], indirect=True)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack([StreetScene(seed, *SIZE).render(0.0)[0] for seed in (1, 2)])


def driver_of(tensorrt: Any) -> Any:
    return sys.modules["fake_driver"].FakeDriver


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_labels_are_torchs(precision: str, onnx_tensorrt: Any, frames: np.ndarray) -> None:
    # Trained: a network of a seed is undecided, and fp16 decides for it.
    model = find_model("enet")
    engine = build_engine(model, "tensorrt", precision)
    labels, confidence = engine.infer(frames, True)
    wanted, sure = build_engine(model, "torch", "fp32").infer(frames, True)
    assert (engine.name, engine.precision, engine.device) == ("tensorrt", precision, "Fake Orin")
    assert np.mean(labels == wanted) >= (0.9999 if precision == "fp32" else 0.99)
    assert confidence is not None and sure is not None
    difference = np.abs(confidence.astype(int) - sure)
    # In fp16 other maxima are pooled here and there.
    assert difference.max() <= 1 if precision == "fp32" else difference.mean() <= 2
    same, none = engine.infer(frames, False)
    assert np.array_equal(same, labels) and none is None
    assert driver_of(onnx_tensorrt).streams and len(driver_of(onnx_tensorrt).allocated) == 3, "one for both"
    del engine
    gc.collect()
    assert not driver_of(onnx_tensorrt).allocated and not driver_of(onnx_tensorrt).streams


@only_11
def test_int8_by_the_models_ranges(onnx_tensorrt: Any, frames: np.ndarray) -> None:
    model = find_model("linknet")
    # Pictures this small are all edges.
    engine = build_engine(model, "tensorrt", "int8", Gate(int8=0.9))
    labels, confidence = engine.infer(frames, True)
    wanted, sure = build_engine(model, "torch", "fp32").infer(frames, True)
    assert engine.precision == "int8" and confidence is not None and sure is not None
    assert 0.93 <= np.mean(labels == wanted) < 1.0
    assert np.abs(confidence.astype(int) - sure).mean() < 8


@only_11
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["lraspp", "bisenet_labels", "segformer_nhwc_fixed", "takes_bytes"])
def test_foreign_graphs_run(
    kind: str, precision: str, onnx_tensorrt: Any, frames: np.ndarray, tmp_path: Path
) -> None:
    network: Any = {
        "lraspp": foreign.LRASPP,
        "bisenet_labels": lambda: foreign.BiSeNetV2("labels"),
        "segformer_nhwc_fixed": lambda: foreign.SegFormer(nhwc=True),
        "takes_bytes": foreign.LRASPP,
    }[kind]()
    nhwc, free = kind.startswith("segformer"), kind == "lraspp"
    path = foreign.export(foreign.seeded(network), tmp_path / "net.onnx", SIZE, free=free, nhwc=nhwc)
    statistics = ["--mean", *map(str, foreign.MEAN), "--std", *map(str, foreign.STD)]
    if kind == "takes_bytes":
        statistics = []
        into_bytes(path)
    command = ["models", "import", str(path), "--name", kind, "--out", str(tmp_path)]
    size = ["--width", "96", "--height", "64"] if free else []
    assert main([*command, "--label-set", "camvid11", *statistics, *size]) == 0
    engine = build_engine(find_model(tmp_path / f"{kind}.yaml"), "tensorrt", precision)
    labels, confidence = engine.infer(frames, True)
    assert np.mean(labels == foreign.expected(network, frames, nhwc)) >= (
        0.999 if precision == "fp32" else 0.99
    )
    assert (confidence is None) == (kind == "bisenet_labels")


def into_bytes(path: Path) -> None:
    """A graph that takes bytes and normalises by itself."""
    model = onnx.load(str(path))
    (images,) = model.graph.input
    old = images.name
    images.name, images.type.tensor_type.elem_type = "bytes", TensorProto.UINT8
    std = np.array(foreign.STD, np.float32).reshape(1, 3, 1, 1)
    mean = np.array(foreign.MEAN, np.float32).reshape(1, 3, 1, 1)
    first = [helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT)]
    for op, inputs, made, numbers in (
        ("Mul", "floats", "scaled", 1 / (255 * std)),
        ("Add", "scaled", old, -mean / std),
    ):
        model.graph.initializer.append(numpy_helper.from_array(numbers.astype(np.float32), f"{op}/numbers"))
        first.append(helper.make_node(op, [inputs, f"{op}/numbers"], [made]))
    nodes = [*first, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())


@only_11
def test_what_was_built_is_kept(
    onnx_tensorrt: Any, small_model: ModelManifest, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = build_engine(small_model, "tensorrt", "fp32").infer(frames, False)[0]
    built: list[bytes] = []
    parse = onnx_tensorrt.OnnxParser.parse

    def counted(self: Any, model: bytes, path: str | None = None) -> Any:
        built.append(model)
        return parse(self, model, path)

    monkeypatch.setattr(onnx_tensorrt.OnnxParser, "parse", counted)
    again = build_engine(small_model, "tensorrt", "fp32")
    assert np.array_equal(again.infer(frames, False)[0], labels) and not built
    # For another GPU it is built again.
    monkeypatch.setattr(cuda_driver.Driver, "hardware", lambda self: {"memory": 1})
    build_engine(small_model, "tensorrt", "fp32").infer(frames, False)
    assert len(built) == 1


@only_11
def test_threads_wait_for_each_other(
    onnx_tensorrt: Any, small_model: ModelManifest, frames: np.ndarray
) -> None:
    engine = build_engine(small_model, "tensorrt", "fp32", parallel=2)
    engine.prepare(1, *frames.shape[1:3])
    wanted = [engine.infer(frames[i : i + 1], False)[0] for i in (0, 1)]
    wrong: list[int] = []

    def run(index: int) -> None:
        for _ in range(5):
            if not np.array_equal(engine.infer(frames[index : index + 1], False)[0], wanted[index]):
                wrong.append(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@only_11
@pytest.mark.parametrize(
    ("place", "name", "answer", "sentence"),
    [
        ("OnnxParser", "parse", False, "TensorRT's parser refuses the graph of .* its log says why"),
        ("Builder", "build_serialized_network", None, "could not build the engine of .* its log says why"),
        ("Runtime", "deserialize_cuda_engine", None, "cannot load the engine from the cache"),
        ("ICudaEngine", "create_execution_context", None, "has no memory to run the engine in"),
        ("ICudaEngine", "get_tensor_dtype", "FLOAT", r"made 'images' FLOAT .*; it must be bytes"),
        ("IExecutionContext", "set_input_shape", False, "refuses its input's shape"),
        ("IExecutionContext", "set_tensor_address", False, "refuses the address of 'images'"),
        ("IExecutionContext", "execute_async_v3", False, "refuses to run the engine"),
    ],
)
def test_what_tensorrt_refuses_is_said(
    place: str,
    name: str,
    answer: Any,
    sentence: str,
    onnx_tensorrt: Any,
    small_model: ModelManifest,
    frames: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(getattr(onnx_tensorrt, place), name, lambda *_: answer)
    with pytest.raises(EngineError, match=sentence):
        build_engine(small_model, "tensorrt", "fp32").infer(frames, False)


@only_11
def test_the_drivers_errors_have_words(
    onnx_tensorrt: Any, small_model: ModelManifest, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_of(onnx_tensorrt), "cuMemAlloc_v2", lambda *_: 2)
    with pytest.raises(EngineError, match="CUDA's cuMemAlloc_v2 failed with 2: out of memory"):
        build_engine(small_model, "tensorrt", "fp32").infer(frames, False)


@only_11
def test_a_parser_error_is_the_sentence(
    onnx_tensorrt: Any, small_model: ModelManifest, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tensorrt.parsing"], "NEWEST_OPSET", 9)
    with pytest.raises(EngineError, match=r"parser refuses the graph of small at 96x64 in fp32: .*opset 17"):
        build_engine(small_model, "tensorrt", "fp32").infer(frames, False)


@only_11
def test_what_is_missing_is_named(
    onnx_tensorrt: Any, small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineUnavailable, match=r"no precision 'bf16' on Fake Orin; it has fp16, fp32, int8"):
        build_engine(small_model, "tensorrt", "bf16")
    with pytest.raises(EngineUnavailable, match=r"no int8 ranges .*; `rt_seg export .* finds them"):
        build_engine(small_model, "tensorrt", "int8")
    monkeypatch.setattr(onnx_tensorrt, "__version__", "8.6.2")
    with pytest.raises(EngineUnavailable, match=r"needs TensorRT 10 or newer, and 8.6.2 is installed"):
        build_engine(small_model, "tensorrt")
    monkeypatch.setattr(onnx_tensorrt, "__version__", "11.1.0")
    cuda_driver.driver.cache_clear()
    monkeypatch.setattr(cuda_driver, "load", lambda: driver_of(onnx_tensorrt)(devices=0))
    with pytest.raises(EngineUnavailable, match=r"needs an NVIDIA GPU that works: .*no CUDA-capable device"):
        build_engine(small_model, "tensorrt")


def test_without_a_driver_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_driver.driver.cache_clear()
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-of-nobody.so.1")
    with pytest.raises(EngineUnavailable, match=r"its driver: libcuda-of-nobody.so.1 is not here"):
        cuda_driver.driver()


def test_without_tensorrt_it_is_named(no_libraries: None, small_model: ModelManifest) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(
            EngineUnavailable, match="needs the Python package 'tensorrt': pip install tensorrt"
        ):
            build_engine(small_model, "tensorrt")


@only_11
def test_auto_takes_it_where_torch_has_no_gpu(
    onnx_tensorrt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choosing, "_NVIDIA", (str(tmp_path),))
    monkeypatch.setattr(choosing, "_torch_has_cuda", lambda: False)
    assert choosing.auto_order() == ("tensorrt", *choosing.CPU_ORDER)
    assert ("tensorrt", "fp16") in choosing.installed()


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, types; sys.modules['tensorrt'] = types.ModuleType('tensorrt');"
        "import rt_segmentation.inference.engines.tensorrt_engine; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def scaled(scales: list[float], quantised: bool = False) -> bytes:
    """Bytes, enlarged by constants that one name has for two uses, and divided by next to nothing."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node(
            "Constant", [], ["tiny"], value=numpy_helper.from_array(np.array(1e-12, np.float32))
        ),
        helper.make_node("Constant", [], ["huge"], value_float=-1e30),
        helper.make_node("Max", ["floats", "tiny", "huge"], ["some"]),
        helper.make_node("Div", ["floats", "some"], ["ones"]),
        helper.make_node("Resize", ["ones", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("ReduceSum", ["scales"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["large", "sum"], ["summed"]),
        helper.make_node("Cast", ["summed"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Identity", ["bytes"], ["labels"]),
    ]
    if quantised:
        nodes.insert(1, helper.make_node("QuantizeLinear", ["floats", "tiny"], ["unused"]))
    graph = helper.make_graph(
        nodes,
        "scaled",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, 1, 4, 4])],
        [numpy_helper.from_array(np.array(scales, np.float32), "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("half", [False, True])
def test_the_graph_is_typed_for_tensorrt(half: bool) -> None:
    import onnxruntime

    plain = scaled([1, 1, 2, 2])
    made = onnx.load_model_from_string(for_tensorrt(plain, half))
    onnx.checker.check_model(made, full_check=True)
    types = {tensor.data_type for tensor in made.graph.initializer}
    assert types == ({TensorProto.FLOAT16, TensorProto.FLOAT} if half else {TensorProto.FLOAT})
    assert [node.op_type for node in (made.graph.node[0], made.graph.node[-1])] == ["Cast", "Cast"]
    (resize,) = [node for node in made.graph.node if node.op_type == "Resize"]
    assert (resize.input[2] == "scales") == (not half)
    images = np.array([[[[1, 2], [0, 255]]]], np.uint8)
    answers = [
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"images": images})[
            0
        ]
        for data in (plain, made.SerializeToString())
    ]
    # Nothing divided by next to nothing is nothing, and not no number, also in fp16.
    assert np.array_equal(*answers) and set(np.unique(answers[0])) == {0, 6}


def test_quantised_graphs_are_not_halved() -> None:
    assert for_tensorrt(scaled([1, 1, 2, 2], quantised=True), False)
    with pytest.raises(EngineError, match=r"has quantised operations \(QuantizeLinear '.*; take fp32"):
        for_tensorrt(scaled([1, 1, 2, 2], quantised=True), True)
