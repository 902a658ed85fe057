"""A candidate of `tuned` in a process of its own: an engine set as OpenVINO chooses, or as it was tuned."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np

from rt_segmentation.benchmark.worker import EAGER, make_candidate, serve
from rt_segmentation.inference.engines.interface import Shape
from rt_segmentation.inference.engines.openvino_engine import OpenVINOEngine
from rt_segmentation.inference.options import INSTRUCTIONS, PLAIN, Options
from rt_segmentation.inference.parity import parity_frames
from rt_segmentation.inference.tuned import recall
from rt_segmentation.models import ModelManifest, find_model

OWN_CHOICE, TUNED = "openvino", "openvino, tuned"
"""Names of the candidates beside `EAGER`."""

PRECISION = "int8"


class SetEngine(OpenVINOEngine):
    """Set as it is told, whatever the records say.

    Args:
        manifest: the model.
        options: how it is set.

    Raises:
        EngineError: OpenVINO or int8 is not to be had here.
    """

    def __init__(self, manifest: ModelManifest, options: Options) -> None:
        super().__init__(manifest, PRECISION)
        self._set = options

    def options(self, shape: Shape) -> Options:
        """See `OpenVINOEngine.options`."""
        return self._set


def found_options(manifest: ModelManifest, width: int, height: int) -> Options | None:
    """What was found for one frame at a time of width x height [px]; None where it was not tuned here."""
    for setting in recall(manifest, 1, height, width).latency:
        if (setting.engine, setting.precision) == ("openvino", PRECISION):
            return setting.options
    return None


def make(
    model: str, engine: str, precision: str, width: int, height: int, batch: int, parallel: int
) -> Callable[[], None]:
    """As `make_candidate`.

    Raises:
        EngineError, ModelError: it cannot be built here.
        ValueError: it was not tuned here.
    """
    if engine == EAGER:
        return make_candidate(model, engine, precision, width, height, batch, parallel)
    manifest = find_model(model)
    options = PLAIN if engine == OWN_CHOICE else found_options(manifest, width, height)
    if options is None:
        raise ValueError(f"not tuned yet: `rt_seg tune {model} --size {width}x{height}` comes first")
    # The library reads it at its first compilation, which is yet to come.
    os.environ[INSTRUCTIONS] = options.isa
    built = SetEngine(manifest, options)
    streets = parity_frames(height, width)
    frames = np.resize(streets, (batch, *streets.shape[1:]))

    def segment() -> None:
        built.infer(frames, False)

    return segment


if __name__ == "__main__":
    sys.exit(serve(make))
