"""The parity gate at an engine's door; its verdicts are kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheEntry, CacheKey
from rt_segmentation.inference.engines.interface import EngineError
from rt_segmentation.inference.parity import Gate


def pass_gate(
    key: CacheKey, precision: str, gate: Gate, measure: Callable[[], float], reference: str = "torch in fp32"
) -> None:
    """Let an engine through, or refuse it.

    The agreement is measured once for each engine and set of frames. Where only the threshold is another one,
    what was measured is judged again.

    Args:
        key: of the engine and what it runs; its kind is the engine's name.
        precision: the engine's.
        gate: what is asked.
        measure: the share of pixels with the reference's label.
        reference: in words.

    Raises:
        EngineError: the agreement is too low, or what `measure` raises.
    """
    key = CacheKey(key.kind, {**key.identity, "frames": gate.frames_digest()}, key.made_with)
    verdict = _verdict(cache.find(key))
    if verdict is None or verdict.threshold != gate.threshold(precision):
        with cache.locked(key):
            verdict = _verdict(cache.find_quietly(key))
            agreement = measure() if verdict is None else verdict.agreement
            verdict = _store(key, agreement, gate.threshold(precision))
    refusal = gate.refusal(key.kind, precision, verdict.agreement, reference)
    if refusal:
        raise EngineError(refusal)


class _Verdict(NamedTuple):
    agreement: float
    threshold: float


def _verdict(entry: CacheEntry | None) -> _Verdict | None:
    """What was kept; None where there is nothing, or it is damaged: then the engine is measured again."""
    if entry is None:
        return None
    try:
        verdict = _Verdict(float(entry.data["agreement"]), float(entry.data["threshold"]))
    except (KeyError, TypeError, ValueError):
        return None
    return verdict if 0 <= verdict.agreement <= 1 else None


def _store(key: CacheKey, agreement: float, threshold: float) -> _Verdict:
    data = {"agreement": agreement, "threshold": threshold, "passed": agreement >= threshold}
    cache.keep(key, {}, data)
    return _Verdict(agreement, threshold)
