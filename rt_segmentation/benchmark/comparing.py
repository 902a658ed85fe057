"""Whether one thing is faster than another, from interleaved rounds on a machine that has other work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXACT_UP_TO = 16


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
    sums = np.zeros(1)
    for value in logs:
        sums = np.concatenate((sums + value, sums - value))
    # A sum of floats differs in its last bits by the order of the terms.
    slack = 1e-12
    at_most = (sums < seen - slack).sum() + 0.5 * (abs(sums - seen) <= slack).sum()
    ratio = statistics.median(c / o for o, c in zip(other_ms, candidate_ms))
    return Comparison(round(ratio, 4), round(float(1 - at_most / len(sums)), 4))
