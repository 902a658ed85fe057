"""A candidate of `tuned` in a process of its own: an engine set as it chooses itself, or as it was tuned."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rt_segmentation import cpu
from rt_segmentation.benchmark.worker import EAGER, make_candidate, serve
from rt_segmentation.inference.engines import Engine, build_engine
from rt_segmentation.inference.options import INSTRUCTIONS, PLAIN, Options
from rt_segmentation.inference.parity import parity_frames
from rt_segmentation.inference.tuned import recall
from rt_segmentation.models import ModelManifest, find_model

ENGINES = ("onnxruntime", "openvino", "torch")

TUNED = ", tuned"
"""End of the name of a candidate that is set as it was tuned; the others choose themselves."""


def precisions(engine: str) -> tuple[str, ...]:
    """What an engine is compared in: its fastest on this processor, one or the other."""
    if engine != "openvino":
        return ("fp32",)
    return ("int8", "bf16") if cpu.has_bf16() else ("int8",)


def set_engine(manifest: ModelManifest, engine: str, precision: str, options: Options) -> Engine:
    """An engine that is set as it is told, whatever the records say.

    Args:
        manifest: the model.
        engine: one of `ENGINES`.
        precision: one of its `precisions`.
        options: how it is set.

    Raises:
        EngineError: the engine or its precision is not to be had here.
    """
    built = build_engine(manifest, engine, precision)
    vars(built)["options"] = lambda shape: options
    return built


def found_options(
    manifest: ModelManifest, engine: str, precision: str, width: int, height: int
) -> Options | None:
    """What was found for one frame at a time of width x height [px]; None where it was not tuned here."""
    for setting in recall(manifest, 1, height, width).latency:
        if (setting.engine, setting.precision) == (engine, precision):
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
    name = engine.removesuffix(TUNED)
    options = PLAIN if name == engine else found_options(manifest, name, precision, width, height)
    if options is None:
        command = f"rt_seg tune {Path(model).stem} --engine {name} --size {width}x{height}"
        raise ValueError(f"not tuned yet: `{command}` comes first")
    # The library reads it at its first compilation, which is yet to come.
    os.environ[INSTRUCTIONS] = options.isa
    built = set_engine(manifest, name, precision, options)
    streets = parity_frames(height, width)
    frames = np.resize(streets, (batch, *streets.shape[1:]))

    def segment() -> None:
        built.infer(frames, False)

    return segment


if __name__ == "__main__":
    sys.exit(serve(make))
