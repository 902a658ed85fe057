"""Labels found plane by plane are those that OpenVINO finds pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("openvino", reason="openvino is not installed")

import openvino
from openvino import opset13 as operations

from rt_segmentation.inference.engines.export import LABELS_ONLY, graph_entry, onnx_model
from rt_segmentation.inference.engines.openvino_argmax import compare_planes, compares_pixels
from rt_segmentation.inference.engines.openvino_engine import compile_graph
from rt_segmentation.models import find_model

CLASSES, HEIGHT, WIDTH = 11, 24, 40
CPU = {"INFERENCE_PRECISION_HINT": "f32"}


def segmenter(batch: int = 1, axis: int = 1) -> openvino.Model:
    """What most segmentation networks end with: logits, resized, and their argmax; with the largest logit."""
    images = operations.parameter([batch, 8, HEIGHT // 8, WIDTH // 8], openvino.Type.f32, name="images")
    weights = np.random.default_rng(0).integers(-1, 2, (CLASSES, 8, 1, 1)).astype(np.float32)
    logits = operations.convolution(images, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    resized = operations.interpolate(
        logits, [HEIGHT, WIDTH], "linear_onnx", "sizes", [0, 0], [0, 0], "align_corners", axes=[2, 3]
    )
    best = operations.topk(resized, np.int32(1), axis, "max", "value", "i32", stable=True)
    largest, labels = (operations.squeeze(output, [1]) for output in best.outputs())
    return openvino.Model([operations.convert(labels, "u8"), largest], [images], "segmenter")


@pytest.mark.parametrize(("batch", "axis"), [(1, 1), (3, 1), (2, -3)])
def test_labels_and_logits_stay_the_same_also_where_classes_are_equal(batch: int, axis: int) -> None:
    before, after = segmenter(batch, axis), segmenter(batch, axis)
    assert compare_planes(after)
    core = openvino.Core()
    pixels, planes = (core.compile_model(model, "CPU", CPU) for model in (before, after))
    assert not compares_pixels(planes)
    # Small whole numbers: at every second pixel two classes or more have the largest logit.
    images = np.random.default_rng(1).integers(0, 2, (batch, 8, HEIGHT // 8, WIDTH // 8)).astype(np.float32)
    expected, found = ([output.copy() for output in net(images).values()] for net in (pixels, planes))
    assert found[0].shape == (batch, HEIGHT, WIDTH) and len(np.unique(found[0])) > 4
    for one, other in zip(expected, found):
        np.testing.assert_array_equal(one, other)


def test_what_is_not_over_the_classes_is_left_alone() -> None:
    model = segmenter(axis=2)
    operations_before = len(model.get_ops())
    assert not compare_planes(model) and len(model.get_ops()) == operations_before


@pytest.mark.parametrize("name", ["enet", "lednet", "linknet"])
def test_no_network_of_ours_is_compared_pixel_by_pixel(name: str) -> None:
    pytest.importorskip("torch", reason="graphs are made with PyTorch")
    manifest = find_model(name)
    graph = onnx_model(graph_entry(manifest, 1, 64, 96), LABELS_ONLY)
    assert not compares_pixels(compile_graph(graph, manifest, "fp32", None))
