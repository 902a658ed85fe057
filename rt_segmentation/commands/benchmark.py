"""`rt_seg benchmark`: measurements of this machine, as JSON and as Markdown."""

from __future__ import annotations

import argparse
import sys

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.networks import SEGNET
from rt_segmentation.commands import (
    benchmark_engines,
    benchmark_layers,
    benchmark_messages,
    benchmark_node,
    benchmark_startup,
)

DEFAULT_SIZE = "640x360"


def run(arguments: argparse.Namespace) -> None:
    """Measure engines, their layers, the node, its start, or its messages.

    Raises:
        BenchmarkError: a size is not WIDTHxHEIGHT, or a batch has no frame.
        EngineError, ModelError: nothing can be measured here; the message says why.
    """
    sizes = [_size(text) for text in arguments.sizes]
    if min(arguments.batches) < 1:
        raise BenchmarkError(
            f"a batch of {min(arguments.batches)} frames cannot be timed: it takes 1 or more"
        )
    arguments.models = arguments.models or _default_models(arguments.subject)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.subject == "engines":
        benchmark_engines.run(arguments, sizes, _say)
    elif arguments.subject == "layers":
        benchmark_layers.run(arguments, sizes or [_size(DEFAULT_SIZE)], _say)
    elif arguments.subject == "startup":
        benchmark_startup.run(arguments, sizes or [_size(DEFAULT_SIZE)], _say)
    elif arguments.subject == "messages":
        benchmark_messages.run(arguments, sizes or [_size(DEFAULT_SIZE)], _say)
    else:
        benchmark_node.run(arguments, sizes or [_size(DEFAULT_SIZE)], _say)


def _default_models(subject: str) -> list[str]:
    models = ["enet", "linknet", "lednet"]
    return [*models, SEGNET] if subject == "engines" else models


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 32):
        raise BenchmarkError(f"size '{text}' is not WIDTHxHEIGHT in px, as 640x360, both 32 or more")
    return int(width), int(height)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
