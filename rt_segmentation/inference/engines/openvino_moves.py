"""Maps whose halves go ways of their own stay in one piece: nothing is cut, shuffled or joined.

LEDNet's units convolve the two halves of a map, add them to what they read and shuffle their channels. Here
a map is one piece: a convolution that reads a half has weights of zero for the other one, what it adds to a
half is zero elsewhere, and where a channel lies is in the weights. That is up to half as much arithmetic
again, and no layer that moves values: for processors on which moving takes longer. In exact arithmetic
nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rt_segmentation.inference.engines.openvino_graph import (
    numbers_of,
    only_reader,
    operations,
    replace_weights,
)
from rt_segmentation.inference.engines.openvino_orders import in_pieces

if TYPE_CHECKING:
    import openvino

_SHUFFLE = [0, 2, 1, 3, 4]

View = tuple[Any, np.ndarray]
"""A map's channels as those of another output, or of itself: that one, and their places in it, none twice."""


def join_halves(model: openvino.Model) -> dict[str, str]:
    """Rewrite the units of a graph that convolve the halves of a map, in place.

    Args:
        model: read from an exported graph, not quantised, its constants folded.

    Returns:
        Names of the tensors that are one with another now, and that one's name; of a graph without such
        units, none.
    """
    return _Rewriting(model).run()


class _Rewriting:
    """Finds where the channels are that a layer reads, and lets its weights say it."""

    def __init__(self, model: openvino.Model) -> None:
        self._model = model
        self._views: dict[tuple[str, int], View] = {}
        self._settled: set[str] = set()
        self._renamed: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """See `join_halves`."""
        sums = [node for node in self._model.get_ordered_ops() if _is_residual_sum(node)]
        while len(sums) > 1:
            left, right, *others = sums
            sums = others if self._join(left, right) else sums[1:]
        if self._settled:
            self._settle_all()
            self._model.validate_nodes_and_infer_types()
        return self._renamed

    def _settle_all(self) -> None:
        """From the graph's end: what nobody reads any more is not looked at."""
        seen, asked = set[str](), list(self._model.get_results())
        while asked:
            node = asked.pop()
            if node.get_name() not in seen:
                seen.add(node.get_name())
                self._settle(node)
                asked += [source.get_node() for source in node.input_values()]

    def _join(self, left: Any, right: Any) -> bool:
        """Make one sum of two, and whether they are those of a unit."""
        sums = (left, right)
        if left.output(0).shape != right.output(0).shape or self._needs(right.output(0), left.output(0)):
            return False
        maps = [sum_.input_value(1) for sum_ in sums]
        views = [self._view(one) for one in maps]
        if _key(views[0][0]) != _key(views[1][0]):
            if not all(map(_is_whole, views)) or self._needs(*maps) or self._needs(*maps[::-1]):
                return False
            views = self._side_by_side(maps, views)
        whole = views[0][0]
        if sorted(np.concatenate([places for _, places in views])) != list(range(whole.shape[1])):
            return False
        channels = whole.shape[1]
        for sum_, (_, places) in zip(sums, views):
            spread = _spread(sum_.input_value(0), places, channels)
            whole = self._new(operations().add(spread, whole))
        whole = self._new(operations().relu(whole))
        relus = [relu.output(0) for relu in map(only_reader, sums) if relu is not None]
        kept, other = (min(relu.get_names()) for relu in relus)
        for relu, (_, places) in zip(relus, views):
            relu.set_names(set())
            self._views[_key(relu)] = whole, places
        whole.set_names({kept})
        self._renamed[other] = kept
        return True

    def _needs(self, of: Any, other: Any) -> bool:
        """Whether an output is made of another one, now or when layers read whole maps."""
        seen, asked = set[tuple[str, int]](), [of]
        while asked:
            one = asked.pop()
            if _key(one) == _key(other):
                return True
            if _key(one) not in seen:
                seen.add(_key(one))
                asked += one.get_node().input_values()
                asked += [self._views[_key(one)][0]] if _key(one) in self._views else []
        return False

    def _side_by_side(self, maps: list[Any], views: list[View]) -> list[View]:
        """Views of maps of their own, in a new one that has one after the other."""
        joined = self._new(operations().concat([whole for whole, _ in views], 1))
        moved = [(joined, places) for places in _after_another(views)]
        self._views.update(zip(map(_key, maps), moved))
        return moved

    def _new(self, node: Any) -> Any:
        """What a new layer makes, which reads its channels as they lie."""
        self._settled.add(node.get_name())
        return node.output(0)

    def _view(self, of: Any) -> View:
        """Where the channels of an output are."""
        if _key(of) not in self._views:
            self._views[_key(of)] = self._look(of)
        return self._views[_key(of)]

    def _look(self, of: Any) -> View:
        node = of.get_node()
        kind = node.get_type_name()
        if kind == "Slice" and (cut := _cut(node)) is not None:
            whole, places = self._view(node.input_value(0))
            return whole, places[cut]
        if kind == "Reshape" and (source := _shuffled(node)) is not None:
            whole, places = self._view(source)
            groups = node.input_value(0).shape[2]
            return whole, places.reshape(groups, -1).T.flatten()
        if kind == "Concat" and node.get_attributes()["axis"] == 1:
            views = [self._view(source) for source in node.input_values()]
            if len({_key(whole) for whole, _ in views}) == 1:
                return views[0][0], np.concatenate([places for _, places in views])
            return self._pass(node, views)
        if _is_by_channel(node):
            return self._pass(node, [self._view(node.input_value(0))])
        return _itself(of)

    def _pass(self, node: Any, views: list[View]) -> View:
        """Let a layer that takes each channel by itself read whole maps, as their channels lie."""
        if not all(map(_is_whole, views)):
            return _itself(node.output(0))
        self._settled.add(node.get_name())
        places = np.concatenate(_after_another(views))
        for port, (whole, _) in zip(node.inputs(), views):
            port.replace_source_output(whole)
        if node.get_type_name() in ("Add", "Multiply"):
            numbers = node.input_value(1).get_node().data
            moved = np.empty_like(numbers)
            moved[:, places] = numbers
            node.input(1).replace_source_output(operations().constant(moved).output(0))
        return node.output(0), places

    def _settle(self, node: Any) -> None:
        """Let a layer that asks for its channels in their order have them."""
        if node.get_name() in self._settled:
            return
        for port in node.inputs():
            source = port.get_source_output()
            whole, places = self._view(source)
            if _key(whole) == _key(source) and np.array_equal(places, np.arange(len(places))):
                continue
            if port.get_index() == 0 and _has_constant_weights(node):
                port.replace_source_output(whole)
                weights = node.input_value(1).get_node().data
                wide = np.zeros((len(weights), whole.shape[1], *weights.shape[2:]), weights.dtype)
                wide[:, places] = weights
                replace_weights(node, wide)
            else:
                port.replace_source_output(self._in_order(whole, places))

    def _in_order(self, whole: Any, places: np.ndarray) -> Any:
        """Channels from their places."""
        layers = in_pieces(whole, np.asarray(places), 1)
        self._settled.update(layer.get_name() for layer in layers)
        return layers[-1].output(0)


def _key(of: Any) -> tuple[str, int]:
    return of.get_node().get_name(), of.get_index()


def _itself(of: Any) -> View:
    shape = of.get_partial_shape()
    known = shape.rank.is_static and len(shape) > 1 and shape[1].is_static
    return of, np.arange(shape[1].get_length() if known else 0)


def _is_whole(view: View) -> bool:
    whole, places = view
    return len(places) == len(_itself(whole)[1])


def _after_another(views: list[View]) -> list[np.ndarray]:
    """Places of views, in what has their maps one after the other."""
    firsts = np.cumsum([0, *(len(places) for _, places in views)])
    return [places + first for (_, places), first in zip(views, firsts)]


def _is_residual_sum(node: Any) -> bool:
    """Whether it adds a map to what a convolution with a bias made, and a ReLU alone reads it."""
    if node.get_type_name() != "Add" or (reader := only_reader(node)) is None:
        return False
    biased, other = (port.get_source_output().get_node() for port in node.inputs())
    return bool(
        reader.get_type_name() == "Relu"
        and reader.output(0).get_names()
        and node.output(0).get_partial_shape().is_static
        and node.input_value(1).get_partial_shape() == node.output(0).get_partial_shape()
        and biased.get_type_name() == "Add"
        and only_reader(biased) is not None
        and _has_constant_weights(biased.input_value(0).get_node())
        and only_reader(biased.input_value(0).get_node()) is not None
        and _bias(biased) is not None
        and other.get_type_name() != "Constant"
    )


def _has_constant_weights(node: Any) -> bool:
    """Whether it is a convolution whose weights are numbers: those of a quantised graph are computed."""
    return bool(node.get_type_name() == "Convolution" and numbers_of(node.input_value(1)) is not None)


def _bias(biased: Any) -> np.ndarray | None:
    """(C,) of what a convolution's bias adds."""
    node = biased.input_value(1).get_node()
    fits = node.get_type_name() == "Constant" and node.data.size == biased.output(0).shape[1]
    return node.data.reshape(-1) if fits else None


def _spread(biased: Any, places: np.ndarray, channels: int) -> Any:
    """A convolution with its bias, whose channels go to places among so many, with zeros between them."""
    convolution, numbers = biased.get_node().input_value(0).get_node(), _bias(biased.get_node())
    weights = convolution.input_value(1).get_node().data
    wide = np.zeros((channels, *weights.shape[1:]), weights.dtype)
    wide[places] = weights
    replace_weights(convolution, wide)
    bias = np.zeros((1, channels, 1, 1), weights.dtype)
    bias[0, places, 0, 0] = numbers
    return operations().add(convolution, bias).output(0)


def _cut(node: Any) -> slice | None:
    """Of a slice along the channels alone."""
    sources = [source.get_node() for source in node.input_values()[1:]]
    if len(sources) != 4 or any(source.get_type_name() != "Constant" for source in sources):
        return None
    begin, end, step, axes = ([int(value) for value in source.data] for source in sources)
    return slice(begin[0], end[0]) if axes == [1] and step == [1] else None


def _shuffled(node: Any) -> Any | None:
    """What a shuffle of channels reads, (N, C, H, W), if this is its last operation."""
    transpose = node.input_value(0).get_node()
    if transpose.get_type_name() != "Transpose":
        return None
    order, apart = transpose.input_value(1).get_node(), transpose.input_value(0).get_node()
    if apart.get_type_name() != "Reshape" or order.get_type_name() != "Constant":
        return None
    source = apart.input_value(0)
    n, channels, *sides = source.shape
    fits = list(order.data) == _SHUFFLE and node.output(0).shape == source.shape
    groups = apart.output(0).shape[1]
    fits = fits and list(apart.output(0).shape) == [n, groups, channels // groups, *sides]
    return source if fits else None


def _is_by_channel(node: Any) -> bool:
    """Whether a layer takes each channel by itself, and reads one map alone."""
    kind = node.get_type_name()
    if kind in ("Add", "Multiply"):
        numbers, shape = node.input_value(1).get_node(), node.output(0).get_partial_shape()
        return bool(
            numbers.get_type_name() == "Constant"
            and shape.is_static
            # One map that is spread to several is another matter.
            and node.input_value(0).get_partial_shape() == shape
            and list(numbers.data.shape) == [1, shape[1].get_length(), 1, 1]
        )
    if kind == "ReduceMean":
        axes = node.input_value(1).get_node()
        spatial = axes.get_type_name() == "Constant" and set(np.ravel(axes.data).tolist()) <= {2, 3, -1, -2}
        return bool(spatial and node.get_attributes()["keep_dims"] and len(node.input_value(0).shape) == 4)
    if kind == "MaxPool":
        return not any(output.get_target_inputs() for output in node.outputs()[1:])
    return bool(kind == "Relu")
