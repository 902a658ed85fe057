"""A graph that puts its channels in another order gives what ONNX Runtime makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

openvino: Any = pytest.importorskip("openvino")
onnx: Any = pytest.importorskip("onnx")
onnxruntime: Any = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rt_segmentation.inference.engines.openvino_orders import read_graph  # noqa: E402
from rt_segmentation.inference.foreign import original  # noqa: E402

CHANNELS, HEIGHT, WIDTH = 5, 6, 7
CYCLE = (1, 2, 0, 3, 4)
ORDERS = {
    "a cycle of three": CYCLE,
    "a cycle of all": (1, 2, 3, 4, 0),
    "counted from the end": tuple(channel - CHANNELS for channel in CYCLE),
    "its own inverse": (1, 0, 2, 4, 3),
    "as it is": (0, 1, 2, 3, 4),
    "a part": (1, 2, 0),
    "one twice": (1, 2, 0, 3, 3),
}


def graph(order: tuple[int, ...], axis: int = 1, between: str = "", any_size: bool = False) -> bytes:
    """Channels in an order, another layer where one is named, and a convolution."""
    drawn = np.random.default_rng(1)
    weights = drawn.normal(size=(3, len(order), 3, 3)).astype(np.float32)
    slopes = drawn.normal(size=(len(order), 1, 1)).astype(np.float32)
    last = axis in (3, -1)
    nodes = [helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 2, 3, 1])] if last else []
    nodes.append(helper.make_node("Gather", ["turned" if last else "image", "order"], ["put"], axis=axis))
    if last:
        nodes.append(helper.make_node("Transpose", ["put"], ["ordered"], perm=[0, 3, 1, 2]))
    else:
        nodes.append(helper.make_node("Identity", ["put"], ["ordered"]))
    if between:
        inputs = ["ordered", "slopes"] if between in ("PRelu", "Add") else ["ordered"]
        nodes.append(helper.make_node(between, inputs, ["more"]))
    nodes.append(
        helper.make_node("Conv", ["more" if between else "ordered", "weights"], ["out"], pads=[1, 1, 1, 1])
    )
    size = ["height", "width"] if any_size else [HEIGHT, WIDTH]
    content = helper.make_graph(
        nodes,
        "order",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, *size])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, *size])],
        [
            numpy_helper.from_array(np.array(order, np.int64), "order"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(slopes, "slopes"),
        ],
    )
    model = helper.make_model(content, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


IMAGE = np.random.default_rng(2).normal(size=(1, CHANNELS, HEIGHT, WIDTH)).astype(np.float32)


def expected(data: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"image": IMAGE})
    return np.asarray(out)


def computed(data: bytes) -> np.ndarray:
    model = read_graph(openvino.Core(), data)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled({"image": IMAGE})["out"])


@pytest.mark.parametrize("axis", [1, -3, 3, -1])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_channels_are_in_the_order_that_is_asked_for(order: tuple[int, ...], axis: int) -> None:
    data = graph(order, axis)
    np.testing.assert_allclose(computed(data), expected(data), atol=1e-5)


@pytest.mark.parametrize("between", ["Relu", "PRelu", "Add", "Sigmoid"])
@pytest.mark.parametrize("any_size", [False, True])
def test_so_they_are_behind_other_layers(between: str, any_size: bool) -> None:
    data = graph(CYCLE, 1, between, any_size)
    np.testing.assert_allclose(computed(data), expected(data), atol=1e-5)


@pytest.mark.parametrize(("name", "gathers"), [("its own inverse", 1), ("a part", 1), ("a cycle of all", 2)])
def test_what_openvino_does_rightly_stays_as_it_is(name: str, gathers: int) -> None:
    model = read_graph(openvino.Core(), graph(ORDERS[name]))
    assert [node.get_type_name() for node in model.get_ops()].count("Gather") == gathers
    assert any("put" in port.get_names() for node in model.get_ops() for port in node.outputs())


def test_a_graph_as_it_came_is_computed_rightly_without_onnx_runtime() -> None:
    data = graph(CYCLE)
    run, dtype, library = original._load_in_openvino(data, "image")
    assert dtype == np.float32 and library.startswith("openvino ")
    np.testing.assert_allclose(run(IMAGE)["out"], expected(data), atol=1e-5)
