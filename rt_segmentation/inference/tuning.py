"""What `rt_seg tune` measured on this machine, remembered beside the engines."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.versions import graph_version
from rt_segmentation.models import ModelManifest
from rt_segmentation.provenance import ENGINE_LIBRARIES, machine, versions

KIND = "tuned"


@dataclass(frozen=True)
class Timing:
    """What an engine needed for a frame: the median [ms]."""

    engine: str
    precision: str
    median_ms: float


@dataclass(frozen=True)
class Record:
    """What was measured for a model at a size.

    Attributes:
        timings: of the engines that passed the gate, the fastest first; empty where nothing was measured.
        date: of the measurement, as 2026-01-31.
    """

    timings: tuple[Timing, ...] = ()
    date: str = ""

    def describe(self, timing: Timing) -> str:
        """Why this engine is chosen."""
        return f"{timing.median_ms:.1f} ms, measured here by `rt_seg tune` on {self.date}"


def remember(manifest: ModelManifest, height: int, width: int, timings: Sequence[Timing]) -> Record:
    """Keep measurements for frames of height x width [px], in the place of earlier ones.

    Where the cache cannot be written they are kept until the process ends (`cache.keep`).
    """
    ordered = tuple(sorted(timings, key=lambda timing: timing.median_ms))
    record = Record(ordered, datetime.date.today().isoformat())
    key = _key(manifest, height, width)
    data = {"date": record.date, "timings": [asdict(timing) for timing in ordered]}
    with cache.locked(key):
        cache.keep(key, {}, data)
    return record


def recall(manifest: ModelManifest, height: int, width: int) -> Record:
    """What was measured here for this model at this size, with the libraries that are installed now."""
    # Nothing is wrong with a start in the default order: no warning of an entry from other versions.
    entry = cache.find_quietly(_key(manifest, height, width))
    if entry is None:
        return Record()
    return Record(tuple(Timing(**timing) for timing in entry.data["timings"]), entry.data["date"])


def _key(manifest: ModelManifest, height: int, width: int) -> CacheKey:
    identity: dict[str, Any] = {
        "model": manifest.name,
        "weights": manifest.sha256,
        "height": height,
        "width": width,
        "device": machine(),
    }
    return CacheKey(
        KIND, identity, {"graph_version": graph_version(manifest.network), **versions(*ENGINE_LIBRARIES)}
    )
