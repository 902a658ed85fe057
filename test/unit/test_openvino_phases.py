from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")

from rt_segmentation.inference.engines.export import WITH_CONFIDENCE, graph_entry, onnx_model
from rt_segmentation.inference.engines.interface import Shape
from rt_segmentation.inference.engines.openvino_engine import OpenVINOEngine
from rt_segmentation.inference.engines.openvino_whole import Renamed, keep_whole
from rt_segmentation.inference.options import Options
from rt_segmentation.inference.parity import Gate, parity_frames
from rt_segmentation.models import find_model

openvino: Any = pytest.importorskip("openvino")
ops: Any = pytest.importorskip("openvino.opset13")

HEIGHT, WIDTH = 12, 20


def answers(model: Any, images: np.ndarray) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled([images])
    return [np.array(results[index]) for index in range(len(compiled.outputs))]


def kinds(model: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


# A size that needs no padding, sizes that do, batches.
@pytest.mark.parametrize(("batch", "width", "height"), [(1, 96, 64), (1, 100, 75), (3, 33, 49)])
def test_enet_pools_and_interleaves_less_and_its_answers_stay(batch: int, width: int, height: int) -> None:
    path = onnx_model(graph_entry(find_model("enet"), batch, height, width), WITH_CONFIDENCE)
    model, whole = (
        openvino.Core().read_model(path if isinstance(path, bytes) else str(path)) for _ in range(2)
    )
    assert keep_whole(whole) is not None
    frames = parity_frames(height, width)
    frames = np.stack([frames[index % len(frames)] for index in range(batch)])
    (labels, confidence), (labels_whole, confidence_whole) = answers(model, frames), answers(whole, frames)
    assert (labels == labels_whole).mean() > 0.999
    # Of two values that are almost equal rounding decides which one is pooled, and where it goes back to.
    assert (abs(confidence.astype(int) - confidence_whole.astype(int)) <= 1).mean() > 0.99
    assert kinds(model)["MaxPool"] == 1 and kinds(whole)["MaxPool"] == 0
    # One interleaving for each upsampling; beside them the image is turned twice, labels and confidence once.
    assert kinds(whole)["DepthToSpace"] == 2 and kinds(whole)["Transpose"] == 4


@pytest.mark.parametrize("confident", [False, True])
def test_int8_of_enet_is_as_near_to_fp32_as_before(confident: bool) -> None:
    manifest = find_model("enet")
    frames = parity_frames(120, 160)[:1]
    shape = Shape(1, 120, 160, confident)
    exact = OpenVINOEngine(manifest, "fp32", Gate(fp32=0.0)).trial(shape, Options())(frames)[0]
    engine = OpenVINOEngine(manifest, "int8", Gate(int8=0.0))
    agreed = [
        (engine.trial(shape, options)(frames)[0] == exact).mean()
        for options in (Options(), Options(whole=True))
    ]
    assert agreed[1] > agreed[0] - 0.005


class Graph:
    """Random layers."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.pixels = ops.parameter([2, HEIGHT, WIDTH, 3], np.uint8, "pixels")

    def numbers(self, *shape: int) -> Any:
        return ops.constant(self.random.normal(size=shape).astype(np.float32))

    def convolution(self, x: Any, out: int, side: int = 1, stride: int = 1) -> Any:
        edge = [side // 2] * 2
        weights = self.numbers(out, x.output(0).shape[1], side, side)
        made = ops.convolution(x, weights, [stride] * 2, edge, edge, [1, 1])
        return ops.add(made, self.numbers(1, out, 1, 1))

    def image(self, scale: float = 1.0, shift: float = 0.0, pad: tuple[int, int] = (0, 0)) -> Any:
        turned = ops.convert(ops.transpose(self.pixels, np.array([0, 3, 1, 2])), "f32")
        scales = np.array([0.01, 0.02, scale], np.float32).reshape(1, 3, 1, 1)
        shifts = np.array([0, shift, 0], np.float32).reshape(1, 3, 1, 1)
        x = ops.add(ops.multiply(turned, scales), shifts)
        end = np.array([0, 0, *pad])
        return ops.pad(x, np.zeros(4, np.int64), end, "constant", np.float32(0)) if any(pad) else x

    def prelu(self, x: Any) -> Any:
        return ops.prelu(x, self.numbers(x.output(0).shape[1], 1, 1))

    def joined(self, x: Any, maps: int = 5, **how: Any) -> Any:
        size = {"strides": [2, 2], "pads_begin": [0, 0], "pads_end": [0, 0], "kernel": [2, 2]} | how
        begin, end = size["pads_begin"], size["pads_end"]
        pooled = ops.max_pool(x, size["strides"], [1, 1], begin, end, size["kernel"]).output(0)
        scaled = ops.add(ops.multiply(pooled, self.numbers(1, 3, 1, 1)), self.numbers(1, 3, 1, 1))
        sides = [self.prelu(self.convolution(x, maps, 3, 2)), self.prelu(scaled)]
        return self.named(ops.concat(sides, 1), "joined")

    def interleaved(self, x: Any) -> Any:
        n, channels, height, width = x.output(0).shape
        apart = np.array([n, 2, 2, channels // 4, height, width])
        x = ops.transpose(ops.reshape(x, apart, False), np.array([0, 3, 4, 1, 5, 2]))
        return ops.reshape(x, np.array([n, channels // 4, 2 * height, 2 * width]), False)

    def added(self, x: Any, activation: Callable[[Any], Any]) -> Any:
        straight = self.interleaved(self.convolution(x, 24))
        by_way = self.convolution(self.interleaved(self.convolution(x, 8)), 6)
        return self.named(activation(ops.add(straight, by_way)), "added")

    def named(self, x: Any, name: str) -> Any:
        x.output(0).set_names({name})
        return x

    def model(self, *out: Any) -> Any:
        return openvino.Model(list(out), [self.pixels])


def same(build: Callable[[Graph], Any]) -> tuple[Any, Any, Renamed | None]:
    """A graph before and after, whose answers are the same."""
    graph, again = Graph(), Graph()
    model, whole = graph.model(build(graph)), again.model(build(again))
    renamed = keep_whole(whole)
    image = graph.random.integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    (expected,), (found,) = answers(model, image), answers(whole, image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(abs(expected).max()))
    return model, whole, renamed


@pytest.mark.parametrize("maps", [2, 5])
@pytest.mark.parametrize(
    "image",
    [
        lambda graph: graph.image(),
        lambda graph: graph.image(shift=-0.7),
        lambda graph: graph.image(pad=(2, 4)),
    ],
)
def test_an_image_is_pooled_as_bytes_and_added(image: Callable[[Graph], Any], maps: int) -> None:
    _, whole, renamed = same(lambda graph: graph.convolution(graph.joined(image(graph), maps), 3))
    assert renamed is not None and renamed.alike["joined/convolved"] == "joined"
    assert kinds(whole)["MaxPool"] == 0 and kinds(whole)["Convolution"] == 3


def test_the_range_of_a_pooled_image_is_that_of_any_image() -> None:
    graph = Graph()
    joined = graph.joined(graph.image(scale=0.03, shift=-0.7))
    added = joined.input_value(1).get_node().input_value(0).get_node()
    sources = (added.input_value(0).get_node(), added)
    scale, shift = (node.input_value(1).get_node().data.reshape(-1) for node in sources)
    ends = np.array([[0, -0.7, 0], [2.55, 5.1 - 0.7, 7.65]]) * scale + shift
    renamed = keep_whole(graph.model(joined))
    assert renamed is not None
    low, high = renamed.ranges["joined/pooled"]
    assert low <= ends.min() + 1e-5 and high >= ends.max() - 1e-5
    # Not much more than that, and with a zero that stays one.
    assert high - low < 1.02 * (ends.max() - ends.min())
    assert low / (high - low) * 255 == pytest.approx(round(low / (high - low) * 255), abs=1e-6)


def read_twice(graph: Graph) -> Any:
    """What the convolution made is read by another layer, too."""
    joined = graph.joined(graph.image())
    convolved = joined.input_value(0).get_node()
    return ops.add(ops.reduce_max(joined, np.array([1]), True), convolved)


def of_one_weight(graph: Graph) -> Any:
    """Two convolutions with the same weights."""
    image = graph.image()
    joined = graph.joined(image)
    convolution = joined.input_value(0).get_node().input_value(0).get_node().input_value(0).get_node()
    other = ops.convolution(image, convolution.input_value(1), [2, 2], [1, 1], [1, 1], [1, 1])
    return ops.add(ops.reduce_max(joined, np.array([1]), True), other)


def of_distant_pixels(graph: Graph) -> Any:
    """A window's pixels are not side by side."""
    image = graph.image()
    pooled = ops.max_pool(image, [2, 2], [2, 2], [0, 0], [0, 0], [2, 2]).output(0)
    scaled = ops.add(ops.multiply(pooled, graph.numbers(1, 3, 1, 1)), graph.numbers(1, 3, 1, 1))
    edge, weights = [0, 0], graph.numbers(5, 3, 3, 3)
    convolved = ops.convolution(image, weights, [2, 2], edge, edge, [1, 1])
    sides = [graph.prelu(ops.add(convolved, graph.numbers(1, 5, 1, 1))), graph.prelu(scaled)]
    return graph.named(ops.concat(sides, 1), "joined")


@pytest.mark.parametrize(
    "build",
    [
        # The largest byte is the smallest value.
        lambda graph: graph.joined(graph.image(scale=-1.0)),
        # Behind the image is a value that no byte stands for.
        lambda graph: graph.joined(graph.image(shift=-0.7, pad=(2, 4))),
        lambda graph: graph.joined(graph.image(), kernel=[3, 3], pads_begin=[1, 1], pads_end=[0, 0]),
        read_twice,
        of_one_weight,
        of_distant_pixels,
    ],
)
def test_what_cannot_be_pooled_as_bytes_stays_as_it_is(build: Callable[[Graph], Any]) -> None:
    model, whole, renamed = same(build)
    assert renamed is None and kinds(whole)["MaxPool"] == kinds(model)["MaxPool"] == 1


@pytest.mark.parametrize("activation", [ops.relu, lambda x: Graph().prelu(x)])
def test_a_sum_is_interleaved_once(activation: Callable[[Any], Any]) -> None:
    def build(graph: Graph) -> Any:
        return graph.convolution(graph.added(graph.image(), activation), 3, 3)

    _, whole, renamed = same(build)
    assert renamed == Renamed({}, {}, {})
    assert kinds(whole)["DepthToSpace"] == 1 and kinds(whole)["Transpose"] == 1
    # Bytes are made before they are interleaved: the name is that of the phases.
    named = next(o for node in whole.get_ops() for o in node.outputs() if "added" in o.get_names())
    assert named.shape == [2, 24, HEIGHT, WIDTH]


def straight_read_twice(graph: Graph) -> Any:
    x = graph.image()
    straight = graph.interleaved(graph.convolution(x, 24))
    by_way = graph.convolution(graph.interleaved(graph.convolution(x, 8)), 6)
    return ops.add(ops.relu(ops.add(straight, by_way)), straight)


def by_a_larger_convolution(graph: Graph) -> Any:
    x = graph.image()
    straight = graph.interleaved(graph.convolution(x, 24))
    by_way = graph.convolution(graph.interleaved(graph.convolution(x, 8)), 6, 3)
    return ops.relu(ops.add(straight, by_way))


def without_activation(graph: Graph) -> Any:
    return graph.added(graph.image(), lambda x: ops.multiply(x, np.float32(2)))


@pytest.mark.parametrize("build", [straight_read_twice, by_a_larger_convolution, without_activation])
def test_other_sums_stay_as_they_are(build: Callable[[Graph], Any]) -> None:
    _, whole, renamed = same(build)
    assert renamed is None and kinds(whole)["DepthToSpace"] == 0
