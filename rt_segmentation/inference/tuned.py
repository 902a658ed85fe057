"""How engines are best set inside: what `rt_seg tune` found here, or what ships for a kind of processor."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rt_segmentation import __version__, cpu
from rt_segmentation.inference import cache, shipped
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.network import model_identity
from rt_segmentation.inference.options import Options
from rt_segmentation.inference.records import check_numbers, find_record, read_record
from rt_segmentation.inference.versions import graph_version
from rt_segmentation.models import ModelManifest
from rt_segmentation.provenance import ENGINE_LIBRARIES, machine, versions

KIND = "settings"
MOST_THREADS = 4096
"""More than any processor has."""

NOT_CONFIRMED = "faster as a step, but all steps together did not pass when they were measured once more"
"""The note of a step that is not part of what was found."""


@dataclass(frozen=True)
class Setting:
    """What was found best for an engine in a precision.

    Attributes:
        engine, precision: what was set.
        parallel: concurrent batches.
        options: how it is set.
        ms: a batch's time, the median; of several concurrently, the time by their number [ms].
        plain_ms: without the options, one batch at a time, in the same rounds [ms].
        confidence: that it is faster so, 0.5 to 1; 0.5 where nothing was found.
    """

    engine: str
    precision: str
    parallel: int
    options: Options
    ms: float
    plain_ms: float
    confidence: float

    @property
    def name(self) -> str:
        """The engine with its precision."""
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Trial:
    """One thing that was tried.

    Attributes:
        what: in words.
        ratio: of times to what was best until then, the median of the rounds; below 1 is faster; None where
            it could not be measured.
        confidence: that it is faster.
        kept: whether it is part of what was found.
        note: why there is no ratio, or why a faster step is not kept; or empty.
    """

    what: str
    ratio: float | None = None
    confidence: float | None = None
    kept: bool = False
    note: str = ""

    @property
    def of(self) -> str:
        """The engine with its precision."""
        return re.split("[:,]", self.what, maxsplit=1)[0]


@dataclass(frozen=True)
class Tuned:
    """What a search found for a model, a size and a batch.

    Attributes:
        latency: the settings for one batch at a time, the fastest first; of an engine and precision one.
        throughput: those for several concurrently.
        tried: in order.
        date: of the search, with the time, as 2026-01-31T12:00:00.000000+00:00; once it was the day alone.
        seconds: that it took.
        finished: engines with their precisions, as 'openvino int8', of which all was tried.
        package: version of this package that searched; '' once.
    """

    latency: tuple[Setting, ...] = ()
    throughput: tuple[Setting, ...] = ()
    tried: tuple[Trial, ...] = ()
    date: str = ""
    seconds: float = 0.0
    finished: tuple[str, ...] = ()
    package: str = ""

    @property
    def names(self) -> set[str]:
        """The engines with their precisions of which anything is known."""
        found = {one.name for one in (*self.latency, *self.throughput)}
        return found | {one.of for one in self.tried} | set(self.finished)

    def of(self, names: Collection[str]) -> Tuned:
        """What was found of engines with their precisions, as 'openvino int8', alone."""
        return replace(
            self,
            latency=tuple(one for one in self.latency if one.name in names),
            throughput=tuple(one for one in self.throughput if one.name in names),
            tried=tuple(one for one in self.tried if one.of in names),
            finished=tuple(name for name in self.finished if name in names),
        )

    def continued(self) -> Tuned:
        """What a search of this version of the package goes on from.

        Another version may try more, and may make what could not be made: of what an earlier one found, what
        was measured stays, but nothing is finished.
        """
        if self.package == __version__:
            return self
        return replace(self, finished=(), tried=tuple(one for one in self.tried if one.ratio is not None))

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        content = asdict(self)
        for name in ("latency", "throughput"):
            found = getattr(self, name)
            content[name] = [{**asdict(one), "options": one.options.to_json()} for one in found]
        return content


def remember(manifest: ModelManifest, batch: int, height: int, width: int, tuned: Tuned) -> Tuned:
    """Keep what was found, in the place of what was found earlier, with the date and time.

    Where the cache cannot be written it is kept until the process ends (`cache.keep`).
    """
    # All of one length, so that they sort as they follow each other; a day alone goes before its times.
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
    dated = replace(tuned, date=now, package=__version__)
    key = _key(manifest, batch, height, width)
    with cache.locked(key):
        cache.keep(key, {}, dated.to_json())
    return dated


def recall(manifest: ModelManifest, batch: int, height: int, width: int, tell: bool = True) -> Tuned:
    """What was found on this processor with these libraries; empty where nothing was.

    Args:
        manifest: the model.
        batch: frames of a batch.
        height: of the frames [px].
        width: of the frames [px].
        tell: see `find_record`.
    """
    return find_record(_key(manifest, batch, height, width), _read, tell) or Tuned()


def _read(data: Mapping[str, Any]) -> Tuned:
    # Earlier versions did not say what was finished.
    tuned = read_record(Tuned, data, ("latency", "throughput", "tried", "date", "seconds"))
    for one in (*tuned.latency, *tuned.throughput):
        check_numbers((one.ms, one.plain_ms), (one.parallel,))
        if not 0 <= one.options.threads <= MOST_THREADS:
            raise ValueError(f"threads are not from 0 to {MOST_THREADS}")
    return tuned


def options_for(
    manifest: ModelManifest, engine: str, precision: str, batch: int, height: int, width: int, parallel: int
) -> Options:
    """How an engine is set for a batch and size: as it was tuned here, or as ships for this processor.

    Args:
        manifest: the model.
        engine: its name.
        precision: in use.
        batch: frames of a batch.
        height: of the frames [px].
        width: of the frames [px].
        parallel: concurrent batches; from two on the rate counts, not the latency.
    """
    found = recall(manifest, batch, height, width)
    for setting in found.latency if parallel == 1 else (*found.throughput, *found.latency):
        if (setting.engine, setting.precision) == (engine, precision):
            # Threads are of the number of concurrent batches that was measured.
            same = setting.parallel == parallel
            return setting.options if same else replace(setting.options, threads=0, pinned=None)
    return shipped.options_for(manifest.network, engine, precision)


def isa_for(manifest: ModelManifest) -> str:
    """The instruction set that the latest search for a model at any size found best; '' is the default."""
    found = []
    for identity in cache.identities(KIND, manifest.name):
        try:
            batch, height, width = (int(identity[name]) for name in ("batch", "height", "width"))
            tuned = recall(manifest, batch, height, width, tell=False)
        except (KeyError, TypeError, ValueError):
            continue
        found += [(tuned.date, one.options.isa) for one in tuned.latency[:1]]
    return max(found, key=lambda one: one[0])[1] if found else ""


def _key(manifest: ModelManifest, batch: int, height: int, width: int) -> CacheKey:
    identity: dict[str, Any] = {
        **model_identity(manifest),
        "batch": batch,
        "height": height,
        "width": width,
        "device": machine(),
        "arithmetic": list(cpu.arithmetic()),
    }
    return CacheKey(
        KIND, identity, {"graph_version": graph_version(manifest.network), **versions(*ENGINE_LIBRARIES)}
    )
