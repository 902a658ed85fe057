"""Pooled images and interleaved phases, as in ENet, in fewer layers that move values.

Its first block joins what a convolution makes of an image with the image itself, pooled: OpenVINO pools three
channels value by value, and joins pixel by pixel. Here rows and then columns are compared as bytes, all of a
row at a time, and a 1x1 convolution adds the largest to the convolution's map.

Its upsampling adds two maps whose phases were interleaved before, one of them by way of a 1x1 convolution.
Here they are added phase by phase, and the sum is interleaved.

In exact arithmetic nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rt_segmentation.inference.engines.openvino_graph import (
    map_bias,
    numbers_of,
    only_reader,
    operations,
    replace_weights,
)

if TYPE_CHECKING:
    import openvino

Range = tuple[float, float]
PHASES = 4
_INTERLEAVING = [0, 3, 4, 1, 5, 2]
_CHANNELS_FIRST = [0, 3, 1, 2]


def add_pooled_images(model: openvino.Model) -> tuple[dict[str, str], dict[str, Range]]:
    """Let a 1x1 convolution add a pooled image to the map that it was joined with, in place.

    Args:
        model: read from an exported graph, not quantised, its constants folded.

    Returns:
        Names of new tensors and weights, and those of the graph whose ranges are theirs; and names of new
        tensors with a range of their own, which is that of any image.
    """
    alike: dict[str, str] = {}
    ranges: dict[str, Range] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Concat" and node.get_attributes()["axis"] == 1:
            of_one, range_of_one = _add_pooled(node)
            alike, ranges = alike | of_one, ranges | range_of_one
    if alike:
        model.validate_nodes_and_infer_types()
    return alike, ranges


def interleave_sums(model: openvino.Model) -> bool:
    """Add phases before they are interleaved, in place.

    Names stay with the values: those of an interleaved map become those of its phases.

    Args:
        model: as of `add_pooled_images`.

    Returns:
        Whether there were such sums.
    """
    found = [_interleave_later(node) for node in model.get_ordered_ops() if node.get_type_name() == "Add"]
    if any(found):
        model.validate_nodes_and_infer_types()
    return any(found)


def slopes_of_maps(model: openvino.Model) -> None:
    """Give PReLU's slopes the maps' dimensions, in place: OpenVINO keeps the maps' order in memory then."""
    for node in model.get_ops():
        if node.get_type_name() != "PRelu":
            continue
        slopes, shape = numbers_of(node.input_value(1)), node.output(0).get_partial_shape()
        if slopes is not None and shape.is_static and slopes.shape == (shape[1].get_length(), 1, 1):
            node.input(1).replace_source_output(operations().constant(slopes[np.newaxis]).output(0))
    model.validate_nodes_and_infer_types()


def _add_pooled(joined: Any) -> tuple[dict[str, str], dict[str, Range]]:
    """See `add_pooled_images`, for one concatenation; nothing if it is another one."""
    if joined.get_input_size() != 2 or not joined.output(0).get_names():
        return {}, {}
    convolved, pooled = (port.get_source_output().get_node() for port in joined.inputs())
    if (beside := _convolution_and_slopes(convolved)) is None or (image := _pooled_image(pooled)) is None:
        return {}, {}
    convolution, bias, slopes = beside
    ops = operations()
    maps, images = len(bias), len(image.shift)

    weights = convolution.input_value(1).get_node().data
    none = np.zeros((images, *weights.shape[1:]), weights.dtype)
    replace_weights(convolution, np.concatenate([weights, none]))
    made = ops.add(convolution, map_bias(np.concatenate([bias, np.zeros(images)])))
    # A slope of 1 changes nothing.
    made = ops.prelu(made, _slopes(np.concatenate([slopes, np.ones(images)])))

    # Of each pair of columns the first has the larger one: the other one's weights are zero.
    selecting = np.zeros((maps + images, 2 * images, 1, 1), np.float32)
    selecting[np.arange(maps, maps + images), np.arange(images), 0, 0] = image.scale
    selected = ops.convolution(image.largest, ops.constant(selecting), [1, 1], [0, 0], [0, 0], [1, 1])
    added = ops.add(selected, map_bias(np.concatenate([np.zeros(maps), image.shift])))
    out = ops.prelu(ops.add(made, added), _slopes(np.concatenate([np.ones(maps), image.slopes])))

    names, result = joined.output(0).get_names(), joined.output(0)
    kept, weights_name = min(names), convolution.input_value(1).get_node().get_friendly_name()
    result.set_names(set())
    out.output(0).set_names(names)
    new = f"{kept}/convolved", f"{weights_name}/pooled", f"{kept}/pooled"
    for node, name in zip((made, selected.input_value(1).get_node(), added), new):
        node.set_friendly_name(name)
        node.output(0).set_names({name})
    for port in list(result.get_target_inputs()):
        port.replace_source_output(out.output(0))
    # The convolution's maps have been rounded, and are added to zeros: they stay as they are. The image is
    # rounded before its slopes, where it has a range that no tensor of the graph had.
    return {new[0]: kept, new[1]: weights_name}, {new[2]: image.range()}


def _convolution_and_slopes(prelu: Any) -> tuple[Any, np.ndarray, np.ndarray] | None:
    """A convolution, its bias and the slopes behind it, (C,) each, if nobody else reads any of it."""
    if prelu.get_type_name() != "PRelu" or only_reader(prelu) is None:
        return None
    biased, slopes = prelu.input_value(0).get_node(), _by_map(prelu)
    if biased.get_type_name() != "Add" or only_reader(biased) is None or slopes is None:
        return None
    convolution, bias = biased.input_value(0).get_node(), _by_map(biased)
    fits = convolution.get_type_name() == "Convolution" and only_reader(convolution) is not None
    fits = fits and _has_own_weights(convolution)
    return (convolution, bias, slopes) if fits and bias is not None else None


def _has_own_weights(convolution: Any) -> bool:
    """Whether no other layer reads them."""
    weights = convolution.input_value(1).get_node()
    return weights.get_type_name() == "Constant" and only_reader(weights) is not None


@dataclass(frozen=True)
class _PooledImage:
    """An image of bytes, pooled, and what follows.

    Attributes:
        largest: an output of floats, (N, 2 C, H / 2, W / 2): the largest of each window, and something else.
        lowest, highest: what bytes of 0 and 255 are in it, (C,).
        scale, shift, slopes: behind it, (C,).
    """

    largest: Any
    lowest: np.ndarray
    highest: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    slopes: np.ndarray

    def range(self) -> Range:
        """Of any image after scale and shift; zero is one of its 256 steps."""
        ends = [end * self.scale + self.shift for end in (self.lowest, self.highest)]
        low, high = min(0.0, float(np.min(ends))), max(0.0, float(np.max(ends)))
        below = round(-low / (high - low) * 255) if high > low else 0
        # Neither end is cut off.
        below = min(max(below, low < 0), 255 - (high > 0))
        step = max(-low / below if below else 0.0, high / (255 - below) if below < 255 else 0.0)
        return -below * step, (255 - below) * step


def _pooled_image(prelu: Any) -> _PooledImage | None:
    """What a PReLU reads, if it is the image of bytes, pooled, scaled and shifted."""
    numbers, node = [], prelu
    for kind in ("PRelu", "Add", "Multiply"):
        found = _by_map(node) if node.get_type_name() == kind else None
        if found is None or only_reader(node) is None:
            return None
        numbers.append(found)
        node = node.input_value(0).get_node()
    if not _halves(node):
        return None
    slopes, shift, scale = numbers
    image = _largest_of_bytes(node.input_value(0))
    return None if image is None else _PooledImage(*image, scale, shift, slopes)


def _halves(pool: Any) -> bool:
    """Whether it is max pooling of 2x2 windows, side by side, of maps of even sides."""
    if pool.get_type_name() != "MaxPool" or any(o.get_target_inputs() for o in pool.outputs()[1:]):
        return False
    how, shape = pool.get_attributes(), pool.input_value(0).get_partial_shape()
    return bool(
        list(how["kernel"]) == list(how["strides"]) == [2, 2]
        and set(how["dilations"]) == {1}
        and not any((*how["pads_begin"], *how["pads_end"]))
        and shape.is_static
        and not any(side % 2 for side in pool.input_value(0).shape[2:])
    )


def _largest_of_bytes(image: Any) -> tuple[Any, np.ndarray, np.ndarray] | None:
    """The windows' largest of an image that was made of bytes, and what 0 and 255 are: see `_PooledImage`.

    A larger byte is a larger value, as long as every channel's scale is positive.
    """
    ops = operations()
    node, scalings, padding = image.get_node(), [], None
    if node.get_type_name() == "Pad":
        padding = _zeros_behind(node)
        if padding is None:
            return None
        node = node.input_value(0).get_node()
    while node.get_type_name() in ("Add", "Multiply"):
        numbers = _by_map(node)
        positive = node.get_type_name() == "Multiply" and numbers is not None and (numbers > 0).all()
        zero = node.get_type_name() == "Add" and numbers is not None and not numbers.any()
        # What is behind the image is a byte only if zero is one.
        if numbers is None or not (positive or zero or (node.get_type_name() == "Add" and padding is None)):
            return None
        scalings.append((node.get_type_name(), numbers))
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Convert":
        return None
    turned = node.input_value(0).get_node()
    order = numbers_of(turned.input_value(1)) if turned.get_type_name() == "Transpose" else None
    if order is None or order.tolist() != _CHANNELS_FIRST:
        return None
    pixels = turned.input_value(0)
    if pixels.get_element_type().to_string() != "u8" or pixels.get_partial_shape().is_dynamic:
        return None
    if padding is not None:
        pixels = ops.pad(pixels, *_for_pixels(padding), "constant", np.uint8(0)).output(0)
    n, height, width, channels = pixels.shape
    row = width * channels
    pairs = ops.reshape(pixels, np.array([n * height // 2, 2, row]), special_zero=False)
    rows = ops.maximum(_cut(pairs, 1, 0, 1), _cut(pairs, 1, 1, 2))
    # Each value and that of the pixel behind it; every second pixel's is none of a window.
    both = ops.maximum(_cut(rows, 2, 0, row - channels), _cut(rows, 2, channels, row))
    both = ops.concat([both, _cut(rows, 2, row - channels, row)], 2)
    both = ops.reshape(both, np.array([n, height // 2, width // 2, 2 * channels]), special_zero=False)
    found = ops.convert(ops.transpose(both, np.array(_CHANNELS_FIRST)), "f32")
    ends = [np.full(channels, end, np.float32) for end in (0, 255)]
    for kind, numbers in reversed(scalings):
        twice = map_bias(np.concatenate([numbers, numbers]))
        found = ops.multiply(found, twice) if kind == "Multiply" else ops.add(found, twice)
        ends = [end * numbers if kind == "Multiply" else end + numbers for end in ends]
    return found, ends[0], ends[1]


def _cut(of: Any, axis: int, begin: int, end: int) -> Any:
    return operations().slice(of, *(np.array([number]) for number in (begin, end, 1, axis)))


def _zeros_behind(pad: Any) -> np.ndarray | None:
    """How many zeros are below and to the right of maps, by axis; None if it pads in another way."""
    begin, end = (numbers_of(pad.input_value(port)) for port in (1, 2))
    value = numbers_of(pad.input_value(3)) if pad.get_input_size() > 3 else np.zeros(1)
    if pad.get_attributes()["pad_mode"] != "constant" or begin is None or end is None or value is None:
        return None
    fits = end.size == 4 and not begin.any() and not value.any() and not end[:2].any() and (end >= 0).all()
    return end if fits else None


def _for_pixels(end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(4, np.int64), np.array([0, end[2], end[3], 0])


def _interleave_later(total: Any) -> bool:
    """See `interleave_sums`, for one sum."""
    activation = only_reader(total)
    if activation is None or activation.get_type_name() not in ("PRelu", "Relu"):
        return False
    straight, by_way = total.input_values()
    if _phases(straight) is None:
        straight, by_way = by_way, straight
    phases, source, bias = _phases(straight), _convolved_phases(by_way), _by_map(by_way.get_node())
    slopes = _by_map(activation) if activation.get_type_name() == "PRelu" else np.zeros(0)
    if phases is None or source is None or bias is None or slopes is None:
        return False
    ops = operations()
    convolution = by_way.get_node().input_value(0).get_node()
    weights = convolution.input_value(1).get_node().data
    wide = np.kron(np.eye(PHASES, dtype=weights.dtype), weights[:, :, 0, 0])[:, :, np.newaxis, np.newaxis]
    convolution.input(0).replace_source_output(source)
    replace_weights(convolution, wide)
    of_phases = ops.add(convolution, map_bias(np.tile(bias, PHASES)))
    out = ops.add(phases, of_phases)
    out = ops.prelu(out, _slopes(np.tile(slopes, PHASES))) if slopes.size else ops.relu(out)
    interleaved = ops.depth_to_space(out, "blocks_first", 2)
    result = activation.output(0)
    for old, new in ((straight, phases), (by_way, of_phases.output(0)), (result, out.output(0))):
        names = old.get_names()
        old.set_names(set())
        new.set_names(names | new.get_names())
    for port in list(result.get_target_inputs()):
        port.replace_source_output(interleaved.output(0))
    return True


def _convolved_phases(of: Any) -> Any | None:
    """The phases that were interleaved before a 1x1 convolution with a bias, where nobody else reads them."""
    biased = of.get_node()
    if biased.get_type_name() != "Add" or only_reader(biased) is None:
        return None
    convolution = biased.input_value(0).get_node()
    if convolution.get_type_name() != "Convolution" or only_reader(convolution) is None:
        return None
    how, sides = convolution.get_attributes(), list(convolution.input_value(1).shape[2:])
    plain = list(how["strides"]) == sides == [1, 1] and not any((*how["pads_begin"], *how["pads_end"]))
    if not plain or not _has_own_weights(convolution):
        return None
    return _phases(convolution.input_value(0))


def _phases(of: Any) -> Any | None:
    """The phases, (N, 4 C, H, W), of an interleaved map, (N, C, 2 H, 2 W), that one layer reads."""
    node = of.get_node()
    transpose = node.input_value(0).get_node() if node.get_type_name() == "Reshape" else node
    if transpose.get_type_name() != "Transpose" or only_reader(node) is None:
        return None
    order, apart = numbers_of(transpose.input_value(1)), transpose.input_value(0).get_node()
    if apart.get_type_name() != "Reshape" or order is None or order.tolist() != _INTERLEAVING:
        return None
    source = apart.input_value(0)
    if source.get_partial_shape().is_dynamic or len(source.shape) != 4:
        return None
    n, channels, height, width = source.shape
    fits = list(apart.output(0).shape) == [n, 2, 2, channels // PHASES, height, width]
    fits = fits and list(node.output(0).shape) == [n, channels // PHASES, 2 * height, 2 * width]
    return source if fits else None


def _by_map(node: Any) -> np.ndarray | None:
    """(C,) of the numbers that a layer takes beside maps of (N, C, H, W), one for each; None for others."""
    if node.get_input_size() != 2:
        return None
    numbers, shape = numbers_of(node.input_value(1)), node.output(0).get_partial_shape()
    if numbers is None or shape.is_dynamic or len(shape) != 4:
        return None
    channels = shape[1].get_length()
    if numbers.size == 1:
        return np.full(channels, numbers.reshape(()), numbers.dtype)
    return numbers.reshape(-1) if numbers.shape[-3:] == (channels, 1, 1) else None


def _slopes(numbers: np.ndarray) -> Any:
    return operations().constant(numbers.astype(np.float32).reshape(-1, 1, 1))
