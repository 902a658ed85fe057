"""`rt_seg benchmark engines`: models x sizes x engines x precisions."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import add_benchmark, engines_here, minutes, parse_size, say
from rt_segmentation.commands.outputs import check_outputs

if TYPE_CHECKING:
    from rt_segmentation.benchmark.engines import Group, Row
    from rt_segmentation.models import ModelManifest

# Of each candidate, before it is timed: its process, its libraries, its graph.
BUILD_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_benchmark(parser)
    add_timing(parser)


def add_timing(parser: argparse.ArgumentParser) -> None:
    """Add what is timed, and for how long."""
    parser.add_argument(
        "--compare",
        choices=("eager",),
        help="also time plain eager PyTorch in fp32 and give each engine's speed relative to it",
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="batch sizes to time (default 1)")
    parser.add_argument(
        "--minutes", type=minutes, default=10.0, help="total time for timing [min] (default 10)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Time the engines; writes engines.json and engines.md.

    Raises:
        BenchmarkError: a batch has no frame.
        EngineError: no engine of those asked for works here.
        ModelError: there is no such model.
        OptionError: a size is not WIDTHxHEIGHT, or the folder cannot be written.
    """
    from rt_segmentation.benchmark.report import to_markdown, write_result
    from rt_segmentation.models import find_model

    check_outputs(arguments, folders=("out",))
    sizes = [parse_size(text) for text in arguments.sizes]
    models = {name: find_model(name) for name in arguments.models}
    deadline = time.monotonic() + 60 * arguments.minutes
    rows = time_groups(groups(arguments, models, lambda _: sizes), models, deadline)
    write_result(arguments.out, "engines", rows, to_markdown)


def groups(
    arguments: argparse.Namespace,
    models: Mapping[str, ModelManifest],
    sizes: Callable[[str], Sequence[tuple[int, int]]],
) -> list[Group]:
    """What is timed together.

    Args:
        arguments: of the command line.
        models: by the names they were asked for.
        sizes: (width, height) of the frames [px], of a network.

    Raises:
        BenchmarkError, EngineError: see `main`.
    """
    from rt_segmentation.benchmark.engines import Group
    from rt_segmentation.benchmark.errors import BenchmarkError
    from rt_segmentation.benchmark.worker import EAGER

    if min(arguments.batches) < 1:
        raise BenchmarkError(
            f"a batch of {min(arguments.batches)} frames cannot be timed: it takes 1 or more"
        )
    found = []
    for manifest in models.values():
        candidates = _candidates(manifest, arguments.engines, arguments.precisions)
        if arguments.compare == EAGER:
            eager = [(EAGER, "fp32"), (EAGER, "fp16")] if has_cuda() else [(EAGER, "fp32")]
            candidates = [*eager, *candidates]
        found += [
            Group(manifest.architecture, str(manifest.path), *size, tuple(candidates), batch=batch)
            for size in sizes(manifest.network)
            for batch in arguments.batches
        ]
    return found


def time_groups(found: Sequence[Group], models: Mapping[str, ModelManifest], deadline: float) -> list[Row]:
    """Time groups until about a deadline; the rows have the models' names as they were asked for.

    Args:
        found: by `groups`.
        models: by the names they were asked for.
        deadline: by `time.monotonic` [s].
    """
    from rt_segmentation.benchmark.engines import time_group

    rows: list[Row] = []
    for index, group in enumerate(found):
        share = (deadline - time.monotonic()) / (len(found) - index)
        rows += time_group(group, share - BUILD_S * len(group.candidates), say)
    names = {str(manifest.path): name for name, manifest in models.items()}
    for row in rows:
        row.model = names[row.model]
    return rows


def has_cuda() -> bool:
    """Whether PyTorch is here and has a CUDA device."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _candidates(
    manifest: ModelManifest, engines: Sequence[str], precisions: Sequence[str]
) -> list[tuple[str, str]]:
    """Those of `engines_here` that can be built for a model."""
    from rt_segmentation.inference.engines import EngineError, build_engine

    found = []
    for engine, precision in engines_here(engines, precisions):
        try:
            build_engine(manifest, engine, precision)
        except EngineError as error:
            say(f"left out: {error}")
            continue
        found.append((engine, precision))
    if not found:
        raise EngineError(f"no engine of {', '.join(engines) or 'all'} works here for {manifest.name}")
    return found
