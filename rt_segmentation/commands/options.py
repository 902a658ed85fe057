"""What several commands share: options, how their values are read, and JSON."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import check_folder, user_path

if TYPE_CHECKING:
    from rt_segmentation.labels import LabelSet

MODELS = ("enet", "linknet", "lednet")
"""What benchmarks time by default."""


DATASET, SPLIT = "camvid", "val"
"""What data are by default."""


LEAST_ROOM = 2**20
"""What is built takes more [bytes]."""


class OptionError(RtSegmentationError, ValueError):
    """An option's value is not of the form that it must have; the message says which."""


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the choice of the engine."""
    parser.add_argument(
        "--engine", default="auto", help="inference engine (default auto: the fastest that works)"
    )
    parser.add_argument("--precision", default="auto", help="numeric precision of the engine (default auto)")


def add_groups(parser: argparse.ArgumentParser) -> None:
    """Add the groups that classes become."""
    parser.add_argument(
        "--groups",
        default="",
        metavar="G",
        help="class groups: categories, driving, or a YAML file (default: the model's classes)",
    )


def add_truth_ids(parser: argparse.ArgumentParser) -> None:
    """Add what the ids of a bag's ground truth mean."""
    parser.add_argument(
        "--truth-classes",
        default="",
        metavar="SET",
        help="label set of the ground truth's ids: name or YAML file (default: the model's); without groups,"
        " classes of the same name are one",
    )
    parser.add_argument(
        "--void-id",
        type=int,
        action="append",
        default=[],
        choices=range(256),
        metavar="ID",
        help="ground-truth id to treat as unlabelled, beside ids of no class; may be repeated",
    )


def add_image_bits(parser: argparse.ArgumentParser) -> None:
    """Add how many bits 16-bit images use."""
    parser.add_argument(
        "--image-bits",
        default="auto",
        choices=("auto", "8", "10", "12", "14", "16"),
        help="significant bits of 16-bit images; auto (default) estimates them and prints the result",
    )


def add_thresholds(parser: argparse.ArgumentParser) -> None:
    """Add what an evaluation must reach."""
    parser.add_argument(
        "--fail-under-miou",
        type=float,
        metavar="X",
        help="exit with status 1 if the mean IoU is below X (0 to 1)",
    )
    parser.add_argument(
        "--max-p95-ms",
        type=float,
        metavar="X",
        help="exit with status 1 if the 95th percentile of latency is above X [ms]",
    )
    parser.add_argument(
        "--max-drop-rate",
        type=float,
        metavar="X",
        help="exit with status 1 if the share of dropped frames is above X (0 to 1)",
    )
    parser.add_argument("--junit", type=user_path, metavar="F", help="write the verdicts to F as JUnit XML")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a data set."""
    parser.add_argument(
        "--dataset", default=DATASET, help="camvid (default), cityscapes, sunrgbd, folder or street"
    )
    parser.add_argument("--data-root", type=user_path, help="folder of the data set; street needs none")
    parser.add_argument("--split", default=SPLIT, help="split of the data set (default val)")
    add_data_options(parser)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a data set, for `parse_options`."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the data set, such as label_set=site.yaml or annotation=coarse; may be repeated",
    )


def refuse_data(arguments: argparse.Namespace, instead: str) -> None:
    """Refuse options of a data set where an option takes its place, and would let them have no effect.

    Args:
        arguments: of a parser with `add_data` and ``set_defaults(dataset=None, split=None)``.
        instead: the option, or '' where a data set is used: then it gets its defaults.

    Raises:
        OptionError: options of both are given.
    """
    if not instead:
        arguments.dataset = DATASET if arguments.dataset is None else arguments.dataset
        arguments.split = SPLIT if arguments.split is None else arguments.split
        return
    given = [name for name in ("dataset", "data_root", "split") if getattr(arguments, name) is not None]
    given += ["option"] if arguments.option else []
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise OptionError(f"{instead} takes the place of a data set: leave out {names}")


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of a data set, given as NAME=VALUE with a value in YAML.

    Raises:
        OptionError: one is not of that form.
    """
    import yaml

    from rt_segmentation.settings import load_yaml

    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            options[name] = load_yaml(value)
        except yaml.YAMLError:
            equals = ""
        if not name or not equals:
            raise OptionError(f"option '{text}' should be NAME=VALUE, as label_set=cityscapes34")
    return options


def data_options(arguments: argparse.Namespace, labels: LabelSet) -> dict[str, Any]:
    """The options of the data set that a model is measured on; says whose classes its ids are taken for.

    Args:
        arguments: of a parser with `add_data`.
        labels: the model's.

    Raises:
        OptionError: an option is not of the form NAME=VALUE.
    """
    from rt_segmentation.data.registry import assumed, options_for

    given = parse_options(arguments.option)
    if note := assumed(arguments.dataset, labels, given):
        say(note)
    return {**options_for(arguments.dataset, labels), **given}


def to_json(content: dict[str, Any]) -> bytes:
    """JSON text; null for NaN, which JSON does not have."""
    return (json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n").encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    """Add what benchmarks of engines take."""
    add_models(parser)
    add_sizes(parser)
    parser.add_argument(
        "--engines", nargs="+", default=[], help="engines to time (default: all that are installed)"
    )
    parser.add_argument(
        "--precisions", nargs="+", default=[], help="precisions to time (default: all of each engine)"
    )
    add_out(parser)


def engines_here(engines: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Engines with precisions to time: those chosen by themselves here, or those that were asked for.

    Why an engine that was named is left out is said.

    Args:
        engines: by name; none: all that are chosen by themselves here.
        precisions: none: all that a named engine has here, or those that the others choose by themselves.

    Raises:
        EngineError: a name is none, or nothing is left; the message says why.
    """
    from rt_segmentation.inference.engines import ENGINES, EngineError, EngineUnavailable, installed
    from rt_segmentation.inference.engines.choosing import offered

    unknown = sorted(set(engines) - set(ENGINES))
    if unknown:
        raise EngineError(f"unknown engine {unknown[0]!r}; there are {', '.join(ENGINES)}")
    has, reasons = dict[str, tuple[str, ...]](), list[str]()
    for name, precision in installed() if not engines else ():
        has[name] = (*has.get(name, ()), precision)
    for name in dict.fromkeys(engines):
        try:
            has[name] = offered(name)
        except EngineUnavailable as error:
            reasons.append(str(error))
    for name, there in has.items():
        reasons += [
            f"engine '{name}' has {', '.join(there)} here, not {p}" for p in precisions if p not in there
        ]
    left = [(name, p) for name, there in has.items() for p in there if p in (precisions or there)]
    if not left:
        raise EngineError("; ".join(reasons))
    for reason in reasons if engines else ():
        say(f"left out: {reason}")
    return left


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the models of a benchmark."""
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), help=f"models to time (default {', '.join(MODELS)})"
    )


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the sizes of a benchmark's frames."""
    parser.add_argument(
        "--sizes", nargs="+", default=["640x360"], help="frame sizes, WIDTHxHEIGHT [px] (default 640x360)"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a benchmark's results."""
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("benchmark"),
        help="folder for the results as JSON and Markdown (default benchmark)",
    )


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) [px] of 'WIDTHxHEIGHT'.

    Raises:
        OptionError: it is not of that form, or no size of a network's input.
    """
    from rt_segmentation.models import MAX_SIDE, MIN_SIDE, size_problem

    width, _, height = text.partition("x")
    # Python refuses to read numbers of thousands of digits.
    short = len(text) <= 2 * len(str(MAX_SIDE)) + 1
    if not (short and width.isdecimal() and height.isdecimal()) or size_problem(int(width), int(height)):
        raise OptionError(
            f"size '{text}' is not WIDTHxHEIGHT in px, as 640x360, both from {MIN_SIDE} to {MAX_SIDE}"
        )
    return int(width), int(height)


def check_number(option: str, value: float, unit: str, example: float, above_0: bool = False) -> None:
    """Check a number that argparse has read.

    Args:
        option: its name, as 'seconds'.
        value: the number.
        unit: of what, as 'seconds'.
        example: a sensible number.
        above_0: whether 0 makes no sense.

    Raises:
        OptionError: it is below 0, or not finite.
    """
    if not 0 <= value < math.inf or (above_0 and value == 0):
        limit = "above 0" if above_0 else "from 0 up"
        raise OptionError(f"--{option} {value:g} is not a number of {unit} {limit}, as {example:g}")


def at_least(least: float, kind: type[int] | type[float] = float, unit: str = "") -> Callable[[str], float]:
    """A type for argparse: finite numbers of a kind, `least` or more; of a unit, as 'minutes'."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(least) - 1
        if not least <= value < math.inf:
            name = "a whole number" if kind is int else "a number"
            name += f" of {unit}" if unit else ""
            raise argparse.ArgumentTypeError(f"'{text}' is not {name} of {least:g} or more")
        return value

    return number


minutes = at_least(0, unit="minutes")
"""A time for argparse [min]; one that is endless would never be over."""


def check_cache(what: str) -> None:
    """Say before the work, which takes minutes, that nothing can be kept in the cache. Nothing is made.

    Raises:
        EngineError: it is on a disk that is full or read-only, or in a folder of somebody else's.
    """
    from rt_segmentation.inference import cache
    from rt_segmentation.inference.engines import EngineError

    try:
        check_folder(cache.cache_root(), cache.DESCRIPTION, room=LEAST_ROOM)
    except OSError as error:
        raise EngineError(f"{what} cannot be kept: {error}; {_another_cache()}") from error


def require_kept(what: str) -> None:
    """Check that all that was made could be kept in the cache.

    Raises:
        EngineError: it could not.
    """
    from rt_segmentation.inference import cache
    from rt_segmentation.inference.engines import EngineError

    if not cache.kept():
        raise EngineError(f"{what} could not be kept in {cache.cache_root()}; {_another_cache()}")


def _another_cache() -> str:
    return "make room there, or name another folder in XDG_CACHE_HOME"


def say(text: str) -> None:
    """Tell on stderr what happens."""
    print(text, file=sys.stderr, flush=True)
