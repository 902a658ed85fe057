from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openvino")

from rt_segmentation.inference.engines.export import LABELS_ONLY, WITH_CONFIDENCE, graph_entry, onnx_model
from rt_segmentation.inference.engines.interface import EngineError, Shape
from rt_segmentation.inference.engines.openvino_engine import OpenVINOEngine, compile_graph
from rt_segmentation.inference.engines.openvino_int8.places import with_names
from rt_segmentation.inference.engines.openvino_int8.ranges import load_ranges
from rt_segmentation.inference.engines.openvino_whole import Renamed, keep_whole
from rt_segmentation.inference.options import Options
from rt_segmentation.inference.parity import Gate, parity_frames
from rt_segmentation.models import find_model

openvino: Any = pytest.importorskip("openvino")
ops: Any = pytest.importorskip("openvino.opset13")

CHANNELS = 8
SIZE = (6, 10)
LAYERS = ("Convolution", "MaxPool", "Relu")


def read_graph(model: str, kind: str = WITH_CONFIDENCE) -> Any:
    graph = onnx_model(graph_entry(find_model(model), 1, 75, 100), kind)
    return openvino.Core().read_model(graph if isinstance(graph, bytes) else str(graph))


def answers(model: Any, images: np.ndarray) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled([images])
    return [np.array(results[index]) for index in range(len(compiled.outputs))]


def kinds(model: Any) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def test_lednet_moves_no_channels_and_its_answers_stay() -> None:
    model, whole = read_graph("lednet"), read_graph("lednet")
    renamed = keep_whole(whole)
    assert renamed is not None and len(renamed.gone) == 13 and not renamed.alike
    frames = parity_frames(75, 100)[:1]
    (labels, confidence), (labels_whole, confidence_whole) = answers(model, frames), answers(whole, frames)
    assert (labels == labels_whole).mean() > 0.999
    assert abs(confidence.astype(int) - confidence_whole.astype(int)).max() <= 1
    assert kinds(model).count("Convolution") == kinds(whole).count("Convolution")
    # What is left is the image's own transpose, and what cuts the padding off the labels.
    cuts = [
        n for n in whole.get_ops() if n.get_type_name() == "Slice" and list(n.input_value(0).shape[1:2]) > [1]
    ]
    assert kinds(whole).count("Transpose") == 1 and not cuts


def test_a_network_without_such_layers_stays_as_it_is() -> None:
    graph = read_graph("linknet", LABELS_ONLY)
    layers = [kind for kind in kinds(graph) if kind in LAYERS]
    assert keep_whole(graph) is None and [kind for kind in kinds(graph) if kind in LAYERS] == layers
    why = "no layer convolves the halves of a map apart"
    manifest = find_model("linknet")
    entry = onnx_model(graph_entry(manifest, 1, 75, 100), LABELS_ONLY)
    with pytest.raises(EngineError, match=why):
        compile_graph(entry, manifest, "fp32", None, tuned=Options(whole=True))


class Graph:
    """Random layers, by their usual names."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.image = ops.parameter([1, CHANNELS, *SIZE], np.float32, "image")

    def numbers(self, *shape: int) -> Any:
        return ops.constant(self.random.normal(size=shape).astype(np.float32))

    def convolution(self, x: Any, out: int) -> Any:
        weights = self.numbers(out, x.output(0).shape[1], 3, 1)
        made = ops.convolution(x, weights, [1, 1], [1, 0], [1, 0], [1, 1])
        return ops.add(made, self.numbers(1, out, 1, 1))

    def cut(self, x: Any, begin: int, end: int) -> Any:
        return ops.slice(x, *(np.array([number], np.int64) for number in (begin, end, 1, 1)))

    def half(self, x: Any, name: str) -> Any:
        out = x.output(0).shape[1]
        branch = self.convolution(ops.relu(self.convolution(x, out)), out)
        return self.named(ops.relu(ops.add(branch, x)), name)

    def named(self, x: Any, name: str) -> Any:
        x.output(0).set_names({name})
        return x

    def unit(self, x: Any, number: int = 0) -> tuple[Any, Any]:
        middle = CHANNELS // 2
        left, right = self.cut(x, 0, middle), self.cut(x, middle, CHANNELS)
        return self.half(left, f"left{number}"), self.half(right, f"right{number}")

    def shuffle(self, halves: tuple[Any, Any], groups: int) -> Any:
        x = ops.concat(list(halves), 1)
        apart = np.array([1, groups, CHANNELS // groups, *SIZE])
        x = ops.transpose(ops.reshape(x, apart, False), np.array([0, 2, 1, 3, 4]))
        return ops.reshape(x, np.array([1, CHANNELS, *SIZE]), False)

    def model(self, out: Any) -> Any:
        return openvino.Model([out], [self.image])


def joined(graph: Graph) -> Any:
    return ops.concat(list(graph.unit(graph.image)), 1)


def shuffled(graph: Graph) -> Any:
    return ops.concat(list(graph.unit(graph.shuffle(graph.unit(graph.image), 4), 1)), 1)


def exchanged(graph: Graph) -> Any:
    left, right = graph.unit(graph.image)
    side = CHANNELS // 2
    cuts = [graph.cut(half, *ends) for ends in ((0, side // 2), (side // 2, side)) for half in (left, right)]
    return ops.concat(list(graph.unit(ops.concat(cuts, 1), 1)), 1)


def pooled(graph: Graph) -> Any:
    x = ops.max_pool(shuffled(graph), [1, 1], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    x = ops.multiply(x, graph.numbers(1, CHANNELS, 1, 1))
    x = ops.relu(ops.add(x, graph.numbers(1, CHANNELS, 1, 1)))
    return graph.convolution(ops.concat([x, graph.convolution(x, 3)], 1), 5)


def averaged(graph: Graph) -> Any:
    x = shuffled(graph)
    places = ops.reduce_mean(x, np.array([2, 3]), True)
    return ops.add(
        graph.convolution(x, CHANNELS), ops.multiply(places, ops.reduce_mean(x, np.array([1]), True))
    )


def beside(graph: Graph) -> Any:
    """Halves that are no parts of one map."""
    maps = (ops.relu(graph.convolution(graph.image, 4)), ops.relu(graph.convolution(graph.image, 4)))
    left, right = graph.half(maps[0], "left"), graph.half(maps[1], "right")
    return graph.convolution(ops.concat([right, left], 1), 3)


def rounded(graph: Graph, *shape: int) -> Any:
    """Weights that are computed, as in graphs that their authors quantised."""
    ends = [np.float32(-1), np.float32(1)]
    return ops.fake_quantize(graph.numbers(*shape), *map(ops.constant, (*ends, *ends)), 255)


def read_by_rounded_weights(graph: Graph) -> Any:
    weights = rounded(graph, 3, CHANNELS, 3, 3)
    return ops.convolution(shuffled(graph), weights, [1, 1], [1, 1], [1, 1], [1, 1])


def behind_slopes(graph: Graph) -> Any:
    """A layer between shuffle and convolution that asks for its channels in their order."""
    x = graph.shuffle(graph.unit(graph.shuffle(graph.unit(graph.image), 4), 1), 4)
    return graph.convolution(ops.prelu(x, graph.numbers(CHANNELS)), 3)


def behind_a_limit(graph: Graph) -> Any:
    return graph.convolution(ops.clamp(shuffled(graph), 0.0, 6.0), 3)


def spread_to_several(graph: Graph) -> Any:
    """A map that numbers of several maps are added to."""
    maps = (ops.relu(graph.convolution(graph.image, 1)), ops.relu(graph.convolution(graph.image, 1)))
    left, right = graph.half(maps[0], "left"), graph.half(maps[1], "right")
    return ops.multiply(ops.add(left, graph.numbers(1, 3, 1, 1)), right)


@pytest.mark.parametrize(
    "build",
    [
        *(joined, shuffled, exchanged, pooled, averaged, beside),
        *(read_by_rounded_weights, behind_slopes, behind_a_limit, spread_to_several),
    ],
)
def test_channels_are_where_they_were_for_whoever_reads_them(build: Callable[[Graph], Any]) -> None:
    """Answers stay, and but for those that ask for their order, no layer moves channels."""
    graph, again = Graph(), Graph()
    model, whole = graph.model(build(graph)), again.model(build(again))
    assert keep_whole(whole) is not None
    image = graph.random.normal(size=(1, CHANNELS, *SIZE)).astype(np.float32)
    (expected,), (found,) = answers(model, image), answers(whole, image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(abs(expected).max()))
    assert "Slice" not in kinds(whole) and "Transpose" not in kinds(whole)
    if build in (pooled, beside):
        assert "Gather" not in kinds(whole)


def after_another(graph: Graph) -> Any:
    return graph.half(graph.half(graph.image, "first"), "second")


def of_a_part(graph: Graph) -> Any:
    """What lies between the halves is no one's."""
    left, right = graph.cut(graph.image, 0, 3), graph.cut(graph.image, 5, 8)
    return ops.concat([graph.half(left, "left"), graph.half(right, "right")], 1)


def that_overlap(graph: Graph) -> Any:
    left, right = graph.cut(graph.image, 0, 5), graph.cut(graph.image, 3, 8)
    return ops.concat([graph.half(left, "left"), graph.half(right, "right")], 1)


def of_a_shuffle(graph: Graph) -> Any:
    """One after another, of channels that were shuffled before."""
    left, right = graph.cut(graph.image, 0, 4), graph.cut(graph.image, 4, 8)
    x = ops.relu(graph.shuffle((left, right), 2))
    return graph.half(graph.half(x, "first"), "second")


def made_of_the_other(graph: Graph) -> Any:
    """Maps side by side would be made of themselves."""
    left = ops.relu(graph.convolution(graph.image, 4))
    right = ops.relu(graph.convolution(left, 4))
    return ops.concat([graph.half(left, "left"), graph.half(right, "right")], 1)


def of_rounded_weights(graph: Graph) -> Any:
    halves = []
    for name, half in zip(("left", "right"), (graph.cut(graph.image, 0, 4), graph.cut(graph.image, 4, 8))):
        made = ops.convolution(half, rounded(graph, 4, 4, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])
        biased = ops.add(made, graph.numbers(1, 4, 1, 1))
        halves.append(graph.named(ops.relu(ops.add(biased, half)), name))
    return ops.concat(halves, 1)


@pytest.mark.parametrize(
    "build",
    [after_another, of_a_part, that_overlap, of_a_shuffle, made_of_the_other, of_rounded_weights],
)
def test_units_that_are_no_halves_of_a_map_stay_as_they_are(build: Callable[[Graph], Any]) -> None:
    graph, again = Graph(), Graph()
    model, whole = graph.model(build(graph)), again.model(build(again))
    assert keep_whole(whole) is None
    assert [kinds(whole).count(kind) for kind in LAYERS] == [kinds(model).count(kind) for kind in LAYERS]
    image = graph.random.normal(size=(1, CHANNELS, *SIZE)).astype(np.float32)
    (expected,), (found,) = answers(model, image), answers(whole, image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(abs(expected).max()))


def test_tensors_that_are_one_have_one_range() -> None:
    ranges = replace(
        load_ranges(find_model("lednet")), tensors={"a": (0.0, 2.0), "b": (-1.0, 1.0), "c": (0, 9)}
    )
    named = with_names(ranges, Renamed({"b": "a", "d": "c"}, {}, {}))
    assert named == replace(ranges, tensors={"a": (-1.0, 2.0), "c": (0, 9)})


def test_new_tensors_and_weights_have_the_ranges_of_those_they_are_like() -> None:
    ranges = replace(
        load_ranges(find_model("lednet")),
        tensors={"a": (0.0, 2.0)},
        inputs={"w:0": (0.0, 1.0)},
        convolutions=("w", "v"),
    )
    named = with_names(
        ranges, Renamed({}, {"a/2": "a", "w/2": "w", "v/2": "v", "b/2": "b"}, {"c": (-1.0, 1.0)})
    )
    assert named.tensors == {"a": (0.0, 2.0), "a/2": (0.0, 2.0), "c": (-1.0, 1.0)}
    assert named.inputs == {"w:0": (0.0, 1.0), "w/2:0": (0.0, 1.0)}
    assert named.convolutions == ("w", "v", "w/2", "v/2")


@pytest.mark.parametrize("between", [False, True])
def test_int8_keeps_maps_whole_with_the_ranges_of_the_halves(between: bool) -> None:
    manifest = find_model("lednet")
    frames = parity_frames(75, 100)[:1]
    labels = []
    for options in (Options(), Options(bytes_between=between, whole=True)):
        engine = OpenVINOEngine(manifest, "int8", Gate(int8=0.0))
        labels.append(engine.trial(Shape(1, 75, 100, False), options)(frames)[0])
    assert (labels[0] == labels[1]).mean() > 0.97
