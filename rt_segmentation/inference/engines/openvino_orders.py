"""Channels in another order: a fault of OpenVINO's, kept away from every graph that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.openvino_graph import numbers_of, operations


def read_graph(core: Any, graph: Path | bytes) -> Any:
    """A graph as OpenVINO computes it rightly: an `openvino.Model`.

    Args:
        core: an `openvino.Core`.
        graph: an ONNX file, or what is in one.
    """
    model = core.read_model(graph if isinstance(graph, bytes) else str(graph))
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Gather" and (found := _permutation(node)) is not None:
            _replace(node, in_pieces(node.input_value(0), *found)[-1].output(0))
    return model


def in_pieces(of: Any, order: np.ndarray, axis: int) -> list[Any]:
    """Layers that put an output's channels in an order: two of parts, and last the one that joins them.

    OpenVINO 2026.4 moves a layer that puts all channels in order through what follows it, into the weights of
    a convolution, and takes the inverse order there. Orders that are their own inverse, as that of BGR and
    RGB, are right so, all others are wrong without a word. A part of the channels is not moved.

    Args:
        of: the output.
        order: int64, numbers of channels from 0.
        axis: that of the channels.
    """
    ops = operations()
    pieces = [piece for piece in np.array_split(order.astype(np.int64), 2) if len(piece)]
    found = [ops.gather(of, piece, np.array(axis)) for piece in pieces]
    return [*found, ops.concat(found, axis)] if len(found) > 1 else found


def _permutation(node: Any) -> tuple[np.ndarray, int] | None:
    """The order in which a Gather puts all of what lies along an axis, if it is not its own inverse."""
    order, axis = numbers_of(node.input_value(1)), numbers_of(node.input_value(2))
    shape = node.input_value(0).get_partial_shape()
    if order is None or order.ndim != 1 or axis is None or axis.size != 1 or not shape.rank.is_static:
        return None
    # The axis may be counted from the end.
    at = int(axis.reshape(())) % len(shape)
    if not shape[at].is_static or not len(order):
        return None
    count = shape[at].get_length()
    order = np.where(order < 0, order + count, order)
    if not np.array_equal(np.sort(order), np.arange(count)) or np.array_equal(order[order], np.arange(count)):
        return None
    return order, at


def _replace(node: Any, by: Any) -> None:
    """Let all who read a node's output read another one, under the same names."""
    old, names = node.output(0), node.output(0).get_names()
    by.get_node().set_friendly_name(node.get_friendly_name())
    for reader in old.get_target_inputs():
        reader.replace_source_output(by)
    old.set_names(set())
    by.set_names(names)
