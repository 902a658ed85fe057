"""What rewritings of OpenVINO's graphs ask of a layer, and give it."""

from __future__ import annotations

from typing import Any

import numpy as np


def operations() -> Any:
    """OpenVINO's, imported when a graph is rewritten."""
    from openvino import opset13

    return opset13


def only_reader(node: Any) -> Any | None:
    """The layer that alone reads a node's first output; None if there are several, or none."""
    readers = list(node.output(0).get_target_inputs())
    return readers[0].get_node() if len(readers) == 1 else None


def numbers_of(output: Any) -> np.ndarray | None:
    """What a constant holds; None of what is computed."""
    node = output.get_node()
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def map_bias(numbers: np.ndarray) -> Any:
    """A constant (1, C, 1, 1), float32, of (C,)."""
    return operations().constant(numbers.astype(np.float32).reshape(1, -1, 1, 1))


def replace_weights(convolution: Any, weights: np.ndarray) -> None:
    """Give a convolution other weights under the same name, by which int8 ranges know them."""
    old = convolution.input_value(1)
    new = operations().constant(weights)
    names = old.get_names()
    old.set_names(set())
    new.set_friendly_name(old.get_node().get_friendly_name())
    new.output(0).set_names(names)
    convolution.input(1).replace_source_output(new.output(0))
    convolution.validate_and_infer_types()
