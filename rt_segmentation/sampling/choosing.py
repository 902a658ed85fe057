"""The choice among measured frames: worth labelling, and different from one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rt_segmentation.files import spread
from rt_segmentation.sampling.measures import DISAGREES, FAR, FLICKERS, MEASURES, RARE, UNCERTAIN, Measured

WORTH, RANDOM, UNIFORM = "worth", "random", "uniform"
STRATEGIES = (WORTH, RANDOM, UNIFORM)
WEIGHTS = {UNCERTAIN: 1.0, DISAGREES: 1.0, FLICKERS: 0.5, RARE: 1.0, FAR: 1.0}
"""Of the measures' ranks. Masks differ from frame to frame by the camera's motion alone: that counts half."""
RARE_C = 1.02
"""As in the class weights of ENet, Section 5.2: 1 / ln(c + share)."""
COMPARED = 300
"""So many frames, drawn at random, say how different frames usually are."""
SAID = 0.7
"""A measure whose rank is above this is a reason."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that was looked at.

    Attributes:
        bag: its number among the bags.
        number: of its message among the image messages of the bag's topic.
        moment_ns: its stamp, or where stamps do not tell images apart the time recorded [ns].
        stamp_ns, recorded_ns: both of them [ns].
        measured: what is known of it.
    """

    bag: int
    number: int
    moment_ns: int
    stamp_ns: int
    recorded_ns: int
    measured: Measured


@dataclass(frozen=True, eq=False)
class Chosen:
    """A frame that was chosen.

    Attributes:
        candidate: the frame.
        worth: mean rank of its measures, 0 to 1; NaN where none were taken.
        distance: of its features from the nearest frame chosen before it, or known; in units of the usual
            distance. NaN for the first.
        values: of its measures, by name.
        reason: a sentence.
    """

    candidate: Candidate
    worth: float
    distance: float
    values: dict[str, float]
    reason: str


@dataclass(frozen=True)
class Limits:
    """What a choice keeps to.

    Attributes:
        count: frames in all.
        per_bag: of one bag at most.
        apart_ns: between two frames of a bag at least [ns].
    """

    count: int
    per_bag: int
    apart_ns: int


class Taken:
    """Which frames may still be chosen, under the limits."""

    def __init__(self, candidates: Sequence[Candidate], limits: Limits) -> None:
        self._limits = limits
        self._bags = np.array([c.bag for c in candidates], np.int64)
        self._moments = np.array([c.moment_ns for c in candidates], np.int64)
        self._of_bag = np.bincount(self._bags) if len(candidates) else np.zeros(0, np.int64)
        self._of_bag[:] = 0
        self.free = np.ones(len(candidates), bool)

    def take(self, index: int) -> None:
        """Choose a frame: those too near to it, and those of a bag that has its budget, are free no more."""
        bag = self._bags[index]
        self._of_bag[bag] += 1
        own = self._bags == bag
        if self._of_bag[bag] >= self._limits.per_bag:
            self.free[own] = False
        self.free[own & (np.abs(self._moments - self._moments[index]) < self._limits.apart_ns)] = False
        self.free[index] = False


def choose_worth(
    candidates: Sequence[Candidate], limits: Limits, names: Sequence[str], known: np.ndarray, other: str = ""
) -> list[Chosen]:
    """The frames that teach most: greedily the largest product of worth and distance.

    Args:
        candidates: measured by a model.
        limits: of the choice.
        names: of the model's classes.
        known: features of frames that are labelled already, float32 (K, F).
        other: the second model's name, for the reasons.

    Returns:
        In the order chosen, the most valuable first.
    """
    if not candidates:
        return []
    features = np.stack([c.measured.features for c in candidates])
    nearest = np.full(len(candidates), np.inf, np.float32)
    for row in known:
        np.minimum(nearest, np.linalg.norm(features - row, axis=1), out=nearest)
    values, rare = _values(candidates, nearest if len(known) else None)
    ranks = {name: _ranks(found) for name, found in values.items()}
    total = sum(WEIGHTS[name] for name in ranks)
    worth = sum((WEIGHTS[name] * rank for name, rank in ranks.items()), np.zeros(len(candidates))) / (
        total or 1
    )
    usual = _usual_distance(features)
    taken, chosen = Taken(candidates, limits), list[Chosen]()
    while len(chosen) < limits.count and taken.free.any():
        value = np.where(taken.free, worth * np.minimum(1, nearest / usual), -1)
        index = int(value.argmax())
        taken.take(index)
        own = {name: float(found[index]) for name, found in values.items() if np.isfinite(found[index])}
        ranked = {name: float(ranks[name][index]) for name in own}
        distance = float(nearest[index] / usual) if np.isfinite(nearest[index]) else float("nan")
        reason = _reason(own, ranked, names, rare[index], candidates[index], other)
        chosen.append(Chosen(candidates[index], float(worth[index]), distance, own, reason))
        np.minimum(nearest, np.linalg.norm(features - features[index], axis=1), out=nearest)
    return chosen


def choose_random(candidates: Sequence[Candidate], limits: Limits, seed: int) -> list[Chosen]:
    """Frames drawn at random under the limits, in the order drawn."""
    order = np.random.default_rng(seed).permutation(len(candidates))
    return _in_order(candidates, limits, order.tolist(), f"drawn at random, seed {seed}")


def choose_uniform(candidates: Sequence[Candidate], limits: Limits) -> list[Chosen]:
    """Frames evenly spread over the recordings under the limits; what a short one cannot give, others do."""
    bags: dict[int, list[int]] = {}
    for index in sorted(range(len(candidates)), key=lambda i: candidates[i].moment_ns):
        bags.setdefault(candidates[index].bag, []).append(index)
    # As many as are far enough apart.
    thinned = {bag: _thinned(candidates, own, limits.apart_ns) for bag, own in bags.items()}
    shares = _shares({bag: min(len(own), limits.per_bag) for bag, own in thinned.items()}, limits.count)
    order: list[int] = []
    for bag in sorted(bags):
        evenly = spread(bags[bag], shares[bag])
        is_apart = len(_thinned(candidates, evenly, limits.apart_ns)) == len(evenly)
        order += evenly if is_apart else spread(thinned[bag], shares[bag])
    return _in_order(candidates, limits, order, "evenly spread")


def _thinned(candidates: Sequence[Candidate], indices: Sequence[int], apart_ns: int) -> list[int]:
    """Of candidates in the order of time those that are far enough from the one before."""
    kept: list[int] = []
    for index in indices:
        if not kept or candidates[index].moment_ns - candidates[kept[-1]].moment_ns >= apart_ns:
            kept.append(index)
    return kept


def _shares(available: dict[int, int], count: int) -> dict[int, int]:
    """Numbers by bag that are as equal as can be and sum up to the count, or to all that is available."""
    shares, left = dict.fromkeys(available, 0), count
    # The shortest first: what it lacks is divided among the others.
    for place, bag in enumerate(sorted(available, key=lambda bag: (available[bag], bag))):
        shares[bag] = min(available[bag], -(-left // (len(available) - place)))
        left -= shares[bag]
    return shares


def _in_order(
    candidates: Sequence[Candidate], limits: Limits, order: Sequence[int], reason: str
) -> list[Chosen]:
    taken, chosen = Taken(candidates, limits), list[Chosen]()
    for index in order:
        if taken.free[index] and len(chosen) < limits.count:
            taken.take(index)
            chosen.append(Chosen(candidates[index], float("nan"), float("nan"), {}, reason))
    return chosen


def _values(
    candidates: Sequence[Candidate], from_known: np.ndarray | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each measure of all frames, NaN where it was not taken; and each frame's rarest class by id."""
    values = {
        name: np.array([c.measured.values.get(name, np.nan) for c in candidates], np.float64)
        for name in MEASURES
        if any(name in c.measured.values for c in candidates)
    }
    shares = np.stack([c.measured.shares for c in candidates])
    weights = 1 / np.log(RARE_C + shares.mean(0))
    values[RARE] = shares @ weights
    if from_known is not None:
        # What is known decides, and not the model's profile, which knows shares alone.
        values[FAR] = from_known.astype(np.float64)
    return values, ((shares - shares.mean(0)) * weights).argmax(1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Share of the frames with a smaller value, equal ones counting half; 0.5 where it was not taken."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.full(len(values), 0.5)
    below, upto = np.searchsorted(known, values, "left"), np.searchsorted(known, values, "right")
    return np.where(np.isnan(values), 0.5, (below + upto) / 2 / len(known))


def _usual_distance(features: np.ndarray) -> float:
    """Median distance of two frames; 1 where all are the same."""
    rows = np.random.default_rng(0).permutation(len(features))[:COMPARED]
    some = features[rows].astype(np.float64)
    squares = (some**2).sum(1)
    squared = np.maximum(squares[:, None] + squares[None] - 2 * some @ some.T, 0)
    apart = np.sqrt(squared[np.triu_indices(len(some), 1)])
    return float(np.median(apart)) if apart.size and np.median(apart) > 0 else 1.0


def _reason(
    values: dict[str, float],
    ranks: dict[str, float],
    names: Sequence[str],
    rare: int,
    candidate: Candidate,
    other: str,
) -> str:
    share = candidate.measured.shares[rare]
    words = {
        UNCERTAIN: f"mean confidence {1 - values.get(UNCERTAIN, 0):.2f}",
        DISAGREES: f"{values.get(DISAGREES, 0):.0%} of the pixels are something else to {other}",
        FLICKERS: f"{values.get(FLICKERS, 0):.0%} of the pixels changed since the frame before",
        RARE: f"{share:.1%} {names[rare]}",
        FAR: "unlike the training data",
    }
    best = sorted(ranks, key=lambda name: ranks[name], reverse=True)
    said = [f"{words[name]} (above {ranks[name]:.0%} of the frames)" for name in best if ranks[name] > SAID]
    said = [text.replace("(above", "(less sure than", 1) if "confidence" in text else text for text in said]
    return "; ".join(said[:3]) or "unlike the frames chosen before it"
