"""Pairs that quantise and dequantise in a graph, against the same arithmetic in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rt_segmentation.inference.engines import EngineError  # noqa: E402
from rt_segmentation.inference.engines.onnx_int8 import quantise, with_bytes  # noqa: E402
from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(4, 3, 1, 1)).astype(np.float32)
WEIGHTS[2] = 0
BY_CHANNEL = RNG.normal(size=(4, 1, 1, 1)).astype(np.float32)
IMAGES = RNG.uniform(-2, 2, (1, 3, 5, 6)).astype(np.float32)


def model() -> Any:
    """A convolution, one by channel that reads it, and the sum of both."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "weights"], ["full"]),
            helper.make_node("Conv", ["full", "by_channel"], ["grouped"], group=4),
            helper.make_node("Add", ["full", "grouped"], ["sum"]),
        ],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, (1, 4, 5, 6))],
        [
            numpy_helper.from_array(WEIGHTS, "weights"),
            numpy_helper.from_array(BY_CHANNEL, "by_channel"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ranges(**changes: Any) -> QuantizationRanges:
    values: dict[str, Any] = {
        "tensors": {"images": (-1.5, 1.0)},
        "inputs": {"sum:1": (0.0, 3.0)},
        "convolutions": ("weights",),
        "weights_sha256": "",
    }
    return QuantizationRanges(**{**values, **changes})


def rounded(values: np.ndarray, largest: Any) -> np.ndarray:
    scale = np.asarray(np.float32(largest) / 127, np.float32)
    return np.asarray(np.clip(np.rint(values / scale), -128, 127) * scale, np.float32)


def test_each_input_is_rounded_to_its_range() -> None:
    made = model()
    quantise(made.graph, ranges())
    onnx.checker.check_model(made, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": IMAGES})
    by_channel = np.maximum(np.abs(WEIGHTS).max(axis=(1, 2, 3), keepdims=True), 1e-30)
    full = np.einsum("oi,bihw->bohw", rounded(WEIGHTS, by_channel)[..., 0, 0], rounded(IMAGES, 1.5))
    grouped = full * BY_CHANNEL.reshape(1, 4, 1, 1)
    np.testing.assert_allclose(found, full + rounded(grouped, 3.0), atol=2e-2)
    assert np.abs(found - (full + rounded(grouped, 3.0))).mean() < 1e-4
    # One pair for the weights, one for each range.
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 3


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"tensors": {"gone": (0.0, 1.0)}}, "gone"),
        ({"inputs": {"sum:2": (0.0, 1.0)}}, "sum:2"),
        ({"convolutions": ("full",)}, "full:1"),
        # Convolutions by channel stay as they are.
        ({"convolutions": ("by_channel",)}, "by_channel:1"),
    ],
)
def test_ranges_of_another_graph_are_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(EngineError, match=rf"do not fit the graph: 1 names are not in it \(first '{name}'"):
        quantise(model().graph, ranges(**changes))


def with_biases() -> Any:
    """Two convolutions; one of the first's channels is a bias alone, another one has hardly any weights."""
    made = model()
    made.graph.node[0].input.append("bias")
    made.graph.node[2].CopyFrom(helper.make_node("Conv", ["relu", "weights2"], ["sum"]))
    made.graph.node[1].CopyFrom(helper.make_node("Relu", ["full"], ["relu"]))
    del made.graph.initializer[:]
    constants = {"weights": with_weights(), "bias": BIAS, "weights2": WEIGHTS2}
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return made


BIAS = np.array([0.3, -0.2, 0.7, 0.5], np.float32)
WEIGHTS2 = RNG.normal(size=(4, 4, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("optimised", [False, True])
def test_bytes_have_a_zero_of_their_own_and_biases_are_kept(optimised: bool) -> None:
    of_bytes = ranges(
        tensors={"images": (-1.5, 1.0), "relu": (0.0, 6.0)}, inputs={}, convolutions=("weights", "weights2")
    )
    content = with_bytes(with_biases().SerializeToString(), of_bytes)
    made = onnx.load_model_from_string(content)
    onnx.checker.check_model(made, full_check=True)
    assert not {"weights", "weights2"} & {tensor.name for tensor in made.graph.initializer}
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": IMAGES})

    def in_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
        scale = (high - low) / 255
        zero = round(-low / scale)
        return np.asarray((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale)

    def convolved(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
        by_channel = np.maximum(np.abs(weights).max(axis=(1, 2, 3), keepdims=True), 1e-30)
        return np.asarray(np.einsum("oi,bihw->bohw", rounded(weights, by_channel)[..., 0, 0], values))

    inner = convolved(with_weights(), in_bytes(IMAGES, -1.5, 1.0)) + BIAS.reshape(1, 4, 1, 1)
    expected = convolved(WEIGHTS2, in_bytes(np.maximum(inner, 0), 0.0, 6.0))
    # A value between two bytes may go either way.
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(found - expected).mean() < 5e-3


def with_weights() -> np.ndarray:
    weights: np.ndarray = WEIGHTS.copy()
    weights[3] *= 1e-12
    return weights
