"""What was measured on this machine, by `rt_seg tune` or at a node's start, remembered beside the engines."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rt_segmentation import cpu
from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.records import check_numbers, find_record, read_record
from rt_segmentation.inference.versions import graph_version
from rt_segmentation.models import ModelManifest
from rt_segmentation.provenance import ENGINE_LIBRARIES, machine, versions

KIND = "tuned"
AT_START = "measured"


@dataclass(frozen=True)
class Timing:
    """What an engine needed for a frame: the median [ms]."""

    engine: str
    precision: str
    median_ms: float


@dataclass(frozen=True)
class Throughput:
    """Frames per second of an engine: `parallel` concurrent batches, each of `batch` frames."""

    engine: str
    precision: str
    parallel: int
    batch: int
    frames_hz: float

    @property
    def words(self) -> str:
        """How many frames concurrently."""
        return f"batches of {self.batch}" if self.batch > 1 else f"{self.parallel} concurrently"


@dataclass(frozen=True)
class Record:
    """What was measured for a model at a size.

    Attributes:
        timings: of the engines that passed the gate, the fastest first; empty where nothing was measured.
        date: of the measurement, as 2026-01-31.
        throughputs: of the fastest engine, at one and at several frames concurrently.
    """

    timings: tuple[Timing, ...] = ()
    date: str = ""
    throughputs: tuple[Throughput, ...] = ()

    def describe(self, timing: Timing) -> str:
        """Why this engine is chosen."""
        return f"{timing.median_ms:.1f} ms, measured here by `rt_seg tune` on {self.date}"


def remember(
    manifest: ModelManifest,
    height: int,
    width: int,
    timings: Sequence[Timing],
    throughputs: Sequence[Throughput] = (),
) -> Record:
    """Keep measurements for frames of height x width [px], in the place of earlier ones.

    Where the cache cannot be written they are kept until the process ends (`cache.keep`).
    """
    ordered = tuple(sorted(timings, key=lambda timing: timing.median_ms))
    record = Record(ordered, datetime.date.today().isoformat(), tuple(throughputs))
    _keep(_key(manifest, height, width), record)
    return record


def recall(manifest: ModelManifest, height: int, width: int) -> Record:
    """What was measured here for this model at this size, with the libraries that are installed now."""
    return find_record(_key(manifest, height, width), _read) or Record()


def remember_start(
    manifest: ModelManifest, height: int, width: int, throughputs: Sequence[Throughput]
) -> None:
    """Keep what a node's start measured of one engine, so that the next start need not."""
    first = throughputs[0]
    key = _key(manifest, height, width, AT_START, engine=first.engine, precision=first.precision)
    _keep(key, Record((), datetime.date.today().isoformat(), tuple(throughputs)))


def recall_start(manifest: ModelManifest, height: int, width: int, engine: str, precision: str) -> Record:
    """What an earlier start measured of an engine."""
    key = _key(manifest, height, width, AT_START, engine=engine, precision=precision)
    # The start measures it again by itself.
    return find_record(key, _read, tell=False) or Record()


def _keep(key: CacheKey, record: Record) -> None:
    with cache.locked(key):
        cache.keep(key, {}, asdict(record))


def _read(data: Mapping[str, Any]) -> Record:
    # Earlier versions measured no throughputs.
    record = read_record(Record, data, ("timings", "date"))
    throughputs = record.throughputs
    check_numbers(
        (*(t.median_ms for t in record.timings), *(t.frames_hz for t in throughputs)),
        (*(t.parallel for t in throughputs), *(t.batch for t in throughputs)),
    )
    return record


def _key(manifest: ModelManifest, height: int, width: int, kind: str = KIND, **more: str) -> CacheKey:
    identity: dict[str, Any] = {
        "model": manifest.name,
        "weights": manifest.sha256,
        "height": height,
        "width": width,
        "device": machine(),
        "arithmetic": list(cpu.arithmetic()),
        **more,
    }
    return CacheKey(
        kind, identity, {"graph_version": graph_version(manifest.network), **versions(*ENGINE_LIBRARIES)}
    )
