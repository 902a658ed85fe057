"""The LEDNet authors' PyTorch code, with its light and its heavy decoder."""

from __future__ import annotations

import re
from typing import Any

from rt_segmentation.training.importers.source import Source, Tensors

# Position in one side of our SS-nbt unit: `first` is 3x1 on the left and 1x3 on the right.
UNIT_POSITIONS = {("first", "1"): 0, ("second", "1"): 2, ("first", "2"): 5, ("second", "2"): 7}
NORM_POSITIONS = {"1": 3, "2": 8}
SIDES = {"l": "left", "r": "right"}

APN: tuple[tuple[str, str], ...] = (
    ("branch1.1.conv.", "global_branch.1."),
    ("mid.0.conv.", "middle."),
    ("conv1.conv.", "lateral1."),
    ("conv2.conv.", "lateral2."),
    ("down1.conv.", "down1."),
    ("down2.conv.", "down2."),
    ("down3.0.conv.", "down3.0."),
    ("down3.1.conv.", "down3.1."),
)


def rename(key: str) -> str:
    """Our name of a tensor; an unknown one stays as it is."""
    if key.startswith("encoder.initial_block."):
        return key.replace("initial_block", "layers.0")
    if key.startswith("encoder.output_conv."):
        return key.replace("output_conv", "classifier")
    if key.startswith("decoder.apn."):
        inner = key[len("decoder.apn.") :]
        return next(
            (f"apn.{ours}{inner[len(theirs) :]}" for theirs, ours in APN if inner.startswith(theirs)), key
        )
    # Their initial block stands outside of `layers`, ours is its first.
    layer = re.match(r"encoder\.layers\.(\d+)\.(.*)$", key)
    if layer is None:
        return key
    prefix, rest = f"encoder.layers.{int(layer[1]) + 1}", layer[2]
    convolution = re.match(r"conv(3x1|1x3)_([12])_([lr])\.(.*)$", rest)
    if convolution:
        shape, pair, side, parameter = convolution.groups()
        order = "first" if (shape == "3x1") == (side == "l") else "second"
        return f"{prefix}.{SIDES[side]}.{UNIT_POSITIONS[order, pair]}.{parameter}"
    norm = re.match(r"bn([12])_([lr])\.(.*)$", rest)
    if norm:
        return f"{prefix}.{SIDES[norm[2]]}.{NORM_POSITIONS[norm[1]]}.{norm[3]}"
    return f"{prefix}.{rest}"


def convert(tensors: Tensors) -> Tensors:
    """Rename; the layers are the same."""
    return {rename(key): value for key, value in tensors.items()}


def options(tensors: Tensors) -> dict[str, Any]:
    """The decoder, from the channels of the attention."""
    return {"decoder": "light" if len(tensors["decoder.apn.down1.conv.0.bias"]) == 1 else "heavy"}


# No label set: with 20 outputs its 19 train ids come first and the ignored class last, unlike `cityscapes20`.
LEDNET_AUTHORS = Source(
    name="the LEDNet authors' PyTorch code",
    network="lednet",
    marks=(
        "encoder.initial_block.conv.weight",
        "decoder.apn.mid.0.conv.0.bias",
        "decoder.apn.down1.conv.0.bias",
    ),
    convert=convert,
    num_classes=lambda tensors: len(tensors["decoder.apn.mid.0.conv.0.bias"]),
    options=options,
)
