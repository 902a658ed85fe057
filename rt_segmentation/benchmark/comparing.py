"""Whether one thing is faster than another, from interleaved rounds on a machine that has other work."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

EXACT_UP_TO = 12


@dataclass(frozen=True)
class Comparison:
    """What rounds say of a candidate.

    Attributes:
        ratio: of its time to the other's, the median of the rounds; below 1 is faster.
        confidence: that it is faster, 0 to 1.
    """

    ratio: float
    confidence: float


def compare(other_ms: Sequence[float], candidate_ms: Sequence[float]) -> Comparison:
    """Compare the times of rounds, of which each has one of both.

    The confidence is that of the sign test with the sizes of the differences (a permutation test): if neither
    were faster, every round's difference would be as likely the other way round. Nothing is assumed of how a
    machine's noise is spread.
    """
    logs = [math.log(candidate / other) for other, candidate in zip(other_ms, candidate_ms)]
    # One long pause in one round is not to outweigh the others.
    limit = 3 * statistics.median(abs(value) for value in logs)
    logs = [max(-limit, min(limit, value)) for value in logs][-EXACT_UP_TO:]
    seen = sum(logs)
    sums = [
        sum(sign * value for sign, value in zip(signs, logs))
        for signs in itertools.product((1, -1), repeat=len(logs))
    ]
    # A sum of floats differs in its last bits by the order of the terms.
    slack = 1e-12
    at_most = sum(value < seen - slack for value in sums) + 0.5 * sum(abs(v - seen) <= slack for v in sums)
    ratio = statistics.median(c / o for o, c in zip(other_ms, candidate_ms))
    return Comparison(round(ratio, 4), round(1 - at_most / len(sums), 4))
