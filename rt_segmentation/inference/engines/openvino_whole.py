"""Graphs with fewer layers that cut, join, shuffle and interleave maps (`Options.whole`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rt_segmentation.inference.engines.openvino_moves import join_halves
from rt_segmentation.inference.engines.openvino_phases import (
    add_pooled_images,
    interleave_sums,
    slopes_of_maps,
)

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True)
class Renamed:
    """What int8 ranges have to know of a graph that was rewritten.

    Attributes:
        gone: names of the tensors that are one with another now, and that one's name.
        alike: names of new tensors and weights, and those of the graph as it was whose ranges are theirs.
        ranges: names of new tensors that no tensor of the graph was like, and their ranges.
    """

    gone: Mapping[str, str]
    alike: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]


def keep_whole(model: openvino.Model) -> Renamed | None:
    """Rewrite a graph whose layers move values around, in place.

    Args:
        model: read from an exported graph, not quantised.

    Returns:
        What has another name; None of a graph that has no such layers.
    """
    from openvino.passes import ConstantFolding, Manager

    # Where a map is cut may be written as a part of its shape.
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    gone = join_halves(model)
    alike, ranges = add_pooled_images(model)
    later = interleave_sums(model)
    if not (gone or alike or later):
        return None
    slopes_of_maps(model)
    return Renamed(gone, alike, ranges)
