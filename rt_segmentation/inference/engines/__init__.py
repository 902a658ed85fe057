"""Engines: what executes a model. One file an engine, one interface."""

from rt_segmentation.inference.engines.choosing import (
    ENGINES,
    auto_order,
    build_engine,
    calibrate,
    installed,
)
from rt_segmentation.inference.engines.interface import (
    Description,
    Engine,
    EngineError,
    EngineUnavailable,
    describe,
    in_words,
    what_ran,
)

__all__ = [
    "ENGINES",
    "Description",
    "Engine",
    "EngineError",
    "EngineUnavailable",
    "auto_order",
    "build_engine",
    "calibrate",
    "describe",
    "in_words",
    "installed",
    "what_ran",
]
