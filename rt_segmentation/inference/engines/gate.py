"""The parity gate at an engine's door; its verdicts are kept in the cache."""

from __future__ import annotations

from collections.abc import Callable

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
    verdict = cache.find(key)
    if verdict is None or verdict.data["threshold"] != gate.threshold(precision):
        with cache.locked(key):
            verdict = cache.find_quietly(key)
            agreement = measure() if verdict is None else float(verdict.data["agreement"])
            verdict = _store(key, agreement, gate.threshold(precision))
    refusal = gate.refusal(key.kind, precision, float(verdict.data["agreement"]), reference)
    if refusal:
        raise EngineError(refusal)


def _store(key: CacheKey, agreement: float, threshold: float) -> CacheEntry:
    data = {"agreement": agreement, "threshold": threshold, "passed": agreement >= threshold}
    return cache.keep(key, {}, data)
