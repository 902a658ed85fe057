"""Pairs that quantise and dequantise in a graph, against the same arithmetic in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rt_segmentation.inference.engines import EngineError  # noqa: E402
from rt_segmentation.inference.engines.onnx_int8 import quantise  # noqa: E402
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
