"""`rt_seg bag sample`: the frames of bags that are worth labelling, as image files."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from rt_segmentation.commands.options import add_engine, add_image_bits, say
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import user_path
from rt_segmentation.text import printable

if TYPE_CHECKING:
    import numpy as np

    from rt_segmentation.inference.segmenter import Segmenter
    from rt_segmentation.sampling.choosing import Candidate, Chosen
    from rt_segmentation.sampling.looking import Source

COUNT, APART_S, RATE_HZ, SEED = 200, 1.0, 4.0, 1
LONGEST_NS = 9e18
"""No recording is longer, and it fits into 63 bits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "bags", nargs="+", type=user_path, metavar="BAG", help="rosbag2 folder, .mcap, .db3 or .bag"
    )
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR", help="folder, new or empty")
    parser.add_argument("--model", help="which the frames shall teach: a name, or the path of a manifest")
    parser.add_argument("--other", metavar="MODEL", help="where it disagrees, frames are worth more")
    parser.add_argument("--count", type=int, default=COUNT, help=f"of the frames (default {COUNT})")
    parser.add_argument(
        "--strategy",
        choices=("worth", "random", "uniform"),
        default="worth",
        help="what is worth labelling (default), or a baseline that needs no model",
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of random (default {SEED})")
    parser.add_argument("--per-bag", type=int, metavar="N", help="frames of a bag at most (default: shared)")
    parser.add_argument(
        "--apart", type=float, default=APART_S, metavar="S", help=f"time between frames [s] ({APART_S:g})"
    )
    parser.add_argument(
        "--rate", type=float, default=RATE_HZ, help=f"frames looked at per second; 0 is all ({RATE_HZ:g})"
    )
    parser.add_argument(
        "--known", type=user_path, metavar="DIR", help="images that are labelled already: no more like them"
    )
    parser.add_argument("--image-topic", metavar="T", help="of the images (default: the only camera's)")
    add_engine(parser)
    add_image_bits(parser)


def main(arguments: argparse.Namespace) -> None:
    """Look through the bags, choose, write, and say what was chosen.

    Raises:
        SampleError: the options are wrong, there is nothing to choose from, or the folder is not empty.
        BagError: a bag cannot be read; after the sample of the others was written.
        ModelError, EngineError: a model cannot be run.
    """
    from rt_segmentation.bags.errors import BagError
    from rt_segmentation.provenance import commit
    from rt_segmentation.sampling.errors import SampleError
    from rt_segmentation.sampling.writing import ABOUT, SHEET, TABLE, check_out, write_sample

    _check(arguments)
    check_out(arguments.out)
    sources, failures = _open(arguments)
    model, other = _segmenter(arguments, arguments.model), _segmenter(arguments, arguments.other)
    known = _known(arguments, model)
    candidates = _look(arguments, sources, model, other)
    for source in sources:
        _tell(source)
    if not candidates:
        raise SampleError("none of the images can be used: there is nothing to choose from")
    chosen = _choose(arguments, candidates, model, other, known)
    about: dict[str, Any] = {
        "strategy": arguments.strategy,
        "seed": arguments.seed,
        "models": [_described(segmenter) for segmenter in (model, other) if segmenter is not None],
        "bags": [
            {"path": printable(s.path), "topic": s.topic, "images": s.images, "looked_at": s.looked_at}
            for s in sources
        ],
        "count": arguments.count,
        "apart_s": arguments.apart,
        "rate_hz": arguments.rate,
        "known": None if arguments.known is None else printable(arguments.known),
        "commit": commit(),
    }
    for problem in write_sample(arguments.out, sources, chosen, about):
        say(problem)
    looked_at = sum(source.looked_at for source in sources)
    print(f"{arguments.out}: {len(chosen)} of {len(candidates)} usable frames, {looked_at} looked at")
    if len(chosen) < arguments.count:
        all_seen = looked_at == sum(source.images for source in sources)
        print(
            f"fewer than {arguments.count}: {_why_fewer(arguments, len(chosen) == len(candidates), all_seen)}"
        )
    print(f"why each was chosen: {arguments.out / TABLE}; all at a glance: {arguments.out / SHEET}")
    print(f"how: {arguments.out / ABOUT}")
    if failures:
        bags = len(failures) + len(sources)
        raise BagError(f"{len(failures)} of {bags} bags could not be read and are left out, as said above")


def _why_fewer(arguments: argparse.Namespace, all_chosen: bool, all_seen: bool) -> str:
    if all_chosen:
        return "these are all usable frames" + ("" if all_seen else "; raise --rate to look at more")
    return (
        f"all others are less than {arguments.apart:g} s from one of them, or their bag has its budget; lower"
        " --apart, or raise --rate or --per-bag"
    )


def _check(arguments: argparse.Namespace) -> None:
    from rt_segmentation.sampling.errors import SampleError

    if arguments.strategy == "worth" and arguments.model is None:
        raise SampleError("--strategy worth needs --model; random and uniform need none")
    if arguments.strategy != "worth":
        for name in ("model", "other", "known"):
            if getattr(arguments, name) is not None:
                raise SampleError(f"--{name} is for --strategy worth, not for {arguments.strategy}")
    for name in ("count", "per_bag"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise SampleError(f"--{name.replace('_', '-')} is {value}, it must be 1 or more")
    for name, unit in (("apart", "s"), ("rate", "Hz")):
        if not 0 <= getattr(arguments, name) < math.inf:
            raise SampleError(f"--{name} is {getattr(arguments, name):g}, it must be 0 or more [{unit}]")
    if arguments.seed < 0:
        raise SampleError(f"--seed is {arguments.seed}, it must be 0 or more")


def _open(arguments: argparse.Namespace) -> tuple[list[Source], list[str]]:
    """The bags that can be read, and sentences about the others, which are an error where none is left."""
    from rt_segmentation.bags.errors import BagError
    from rt_segmentation.bags.splits import check_apart
    from rt_segmentation.sampling.looking import open_source

    sources, failures = [], []
    bags = list(dict.fromkeys(arguments.bags))
    check_apart(bags)
    for path in bags:
        try:
            sources.append(open_source(path, arguments.image_topic))
        except BagError as error:
            failures.append(f"{path}: {error}")
    if not sources:
        raise BagError("\n".join(failures))
    for sentence in failures:
        say(f"left out: {sentence}")
    return sources, failures


def _segmenter(arguments: argparse.Namespace, name: str | None) -> Segmenter | None:
    if name is None or arguments.strategy != "worth":
        return None
    from rt_segmentation.inference.segmenter import Segmenter
    from rt_segmentation.models import find_model

    return Segmenter.build(find_model(name), arguments.engine, arguments.precision)


def _look(
    arguments: argparse.Namespace, sources: list[Source], model: Segmenter | None, other: Segmenter | None
) -> list[Candidate]:
    from rt_segmentation.sampling.looking import look_through
    from rt_segmentation.sampling.measures import Measurer

    measurer = Measurer(model, other)
    period_ns = 0 if not arguments.rate else round(min(1e9 / arguments.rate, LONGEST_NS))
    total = sum(source.images for source in sources)

    def all_frames() -> Any:
        for number, source in enumerate(sources):
            yield from look_through(source, number, measurer, period_ns, arguments.image_bits)

    return [candidate for candidate in progress(all_frames(), total) if candidate is not None]


def _known(arguments: argparse.Namespace, model: Segmenter | None) -> np.ndarray:
    """Features of the images that are labelled already, float32 (K, F)."""
    import numpy as np

    from rt_segmentation.imaging.errors import ImageError
    from rt_segmentation.imaging.files import read_frame
    from rt_segmentation.imaging.levels import Levels
    from rt_segmentation.inference.parity import images_in
    from rt_segmentation.sampling.measures import Measurer

    if arguments.known is None:
        return np.zeros((0, 0), np.float32)
    measurer, levels, features = Measurer(model), Levels(arguments.image_bits), []
    for path in images_in(arguments.known):
        try:
            measurer.restart()
            measured = measurer.measure(levels(read_frame(path)))
        except ImageError as error:
            say(f"left out of --known: {path}: {error}")
            continue
        if not measured.problem:
            features.append(measured.features)
    return np.stack(features) if features else np.zeros((0, 0), np.float32)


def _choose(
    arguments: argparse.Namespace,
    candidates: list[Candidate],
    model: Segmenter | None,
    other: Segmenter | None,
    known: np.ndarray,
) -> list[Chosen]:
    from rt_segmentation.sampling.choosing import (
        RANDOM,
        Limits,
        choose_random,
        choose_uniform,
        choose_worth,
    )

    def choose(per_bag: int) -> list[Chosen]:
        limits = Limits(arguments.count, per_bag, round(min(arguments.apart * 1e9, LONGEST_NS)))
        if model is not None:
            names = model.config.label_set.names
            name = "" if other is None else other.config.manifest.name
            return choose_worth(candidates, limits, names, known, name)
        if arguments.strategy == RANDOM:
            return choose_random(candidates, limits, arguments.seed)
        return choose_uniform(candidates, limits)

    if arguments.per_bag is not None:
        return choose(arguments.per_bag)
    bags = len({candidate.bag for candidate in candidates})
    per_bag = -(-arguments.count // bags)
    chosen = choose(per_bag)
    # What a short bag cannot give, the others may.
    while len(chosen) < arguments.count and per_bag < arguments.count and bags > 1:
        per_bag = min(2 * per_bag, arguments.count)
        chosen = choose(per_bag)
    return chosen


def _described(segmenter: Segmenter) -> dict[str, str]:
    from rt_segmentation.inference.engines import in_words, what_ran

    config = segmenter.config
    return {
        "name": config.manifest.name,
        "sha256": config.manifest.sha256,
        "engine": in_words(*what_ran(config.engine)),
    }


def _tell(source: Source) -> None:
    for note in source.notes:
        say(f"{source.path}: {note}")
    if not source.images and not source.looked_at:
        say(f"{source.path}: topic {source.topic} has no messages")
    if source.left_out:
        parts = ", ".join(f"{count} {why}" for why, count in sorted(source.left_out.items()))
        say(f"{source.path}: of {source.looked_at} frames looked at some are left out: {parts}")
