"""Where a graph's maps become bytes: other places than those that were found with the ranges."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges, Range

if TYPE_CHECKING:
    import openvino

    from rt_segmentation.inference.engines.openvino_whole import Renamed

_MOVES = ("Concat", "Reshape", "Slice", "Split", "Transpose", "VariadicSplit")


def with_bytes_between(model: openvino.Model, ranges: QuantizationRanges) -> QuantizationRanges:
    """Ranges by which maps are bytes as soon as a ReLU has made them: they are moved and added as such.

    Where parts of several maps meet in front of a convolution, all of these maps have one range, that of the
    convolutions that read them.

    Args:
        model: read from the exported graph, not quantised; it stays as it is.
        ranges: of this model.
    """
    read = _convolutions(model)
    # Maps of one range, their range, and the inputs that need none of their own then.
    found: list[tuple[set[str], Range, set[str]]] = [({name}, r, set()) for name, r in ranges.tensors.items()]
    for name, limits in ranges.inputs.items():
        weights, _, port = name.rpartition(":")
        made = list(_made_by(read[weights].input_value(0))) if port == "0" and weights in read else []
        if made and all(o.get_node().get_type_name() == "Relu" and o.get_names() for o in made):
            found.append(({min(output.get_names()) for output in made}, limits, {name}))
    joined: list[tuple[set[str], Range, set[str]]] = []
    for maps, limits, inputs in found:
        for one in [one for one in joined if one[0] & maps]:
            joined.remove(one)
            maps, inputs = maps | one[0], inputs | one[2]
            limits = min(limits[0], one[1][0]), max(limits[1], one[1][1])
        joined.append((maps, limits, inputs))
    spared = set().union(*(inputs for _, _, inputs in joined))
    return replace(
        ranges,
        tensors={name: limits for maps, limits, _ in joined for name in sorted(maps)},
        inputs={name: limits for name, limits in ranges.inputs.items() if name not in spared},
    )


def with_names(ranges: QuantizationRanges, renamed: Renamed) -> QuantizationRanges:
    """Ranges of a graph that was rewritten: one for tensors that have become one, the same for those alike.

    Args:
        ranges: of the graph as it was.
        renamed: its names.
    """
    tensors: dict[str, Range] = {}
    for name, limits in ranges.tensors.items():
        one = renamed.gone.get(name, name)
        other = tensors.get(one, limits)
        tensors[one] = min(limits[0], other[0]), max(limits[1], other[1])
    inputs, convolutions = dict(ranges.inputs), list(ranges.convolutions)
    for new, old in renamed.alike.items():
        if old in tensors:
            tensors[new] = tensors[old]
        if old in convolutions:
            convolutions.append(new)
        if f"{old}:0" in inputs:
            inputs[f"{new}:0"] = inputs[f"{old}:0"]
    tensors |= renamed.ranges
    return replace(ranges, tensors=tensors, inputs=inputs, convolutions=tuple(convolutions))


def without_convolutions(
    model: openvino.Model, ranges: QuantizationRanges, weights: Collection[str]
) -> QuantizationRanges:
    """Ranges that leave convolutions out of int8.

    Args:
        model: as for `with_bytes_between`.
        ranges: of this model.
        weights: names of the convolutions' weights.
    """
    read = _convolutions(model)
    left = {read[name].get_friendly_name() for name in weights if name in read}
    tensors = {
        name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()
    }

    def needed(name: str) -> bool:
        readers = {port.get_node().get_friendly_name() for port in tensors[name].get_target_inputs()}
        return not readers <= left

    return replace(
        ranges,
        tensors={n: limits for n, limits in ranges.tensors.items() if n not in tensors or needed(n)},
        inputs={n: limits for n, limits in ranges.inputs.items() if n.rpartition(":")[0] not in weights},
        convolutions=tuple(name for name in ranges.convolutions if name not in weights),
    )


def _convolutions(model: openvino.Model) -> dict[str, Any]:
    """By the name of their weights."""
    nodes = (node for node in model.get_ops() if node.get_type_name() == "Convolution")
    return {node.input_value(1).get_node().get_friendly_name(): node for node in nodes}


def _made_by(output: Any) -> Iterator[Any]:
    """What made the values of an output, before they were cut, joined and shuffled."""
    node = output.get_node()
    if node.get_type_name() not in _MOVES:
        yield output
        return
    # The other inputs of a move say how.
    for port in node.inputs() if node.get_type_name() == "Concat" else node.inputs()[:1]:
        yield from _made_by(port.get_source_output())
