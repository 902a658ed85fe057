"""How an engine is best set: step by step, each kept where the whole network is faster with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from rt_segmentation.benchmark.comparing import Comparison, compare
from rt_segmentation.benchmark.variants import Group, OutOfTime, Variant, VariantError
from rt_segmentation.inference.options import EVERY_LAYER, FLOAT, PLAIN, Options
from rt_segmentation.inference.tuned import NOT_CONFIRMED, Setting, Trial, Tuned

ROUNDS = 8
HOPELESS_AFTER = 3
ROUND_MS = 150.0
SURE = 0.95
"""A step is kept from this confidence on."""

GAIN = 0.01
"""And where it gains as much."""

CONFIRMED = 0.25
"""Of a search's time: what was found is measured once more, with fresh rounds, and judged."""

AGAIN = 2.0
"""To measure once more takes so many times as long as a step, at most."""

FAMILIES = ("jit_avx512", "brgconv_avx512", "brgconv_avx512_amx", "jit_avx2")
"""OpenVINO's families of kernels for convolutions."""

SMALL_SHARE = 0.02
"""Groups of layers below this share of the time are left alone."""


class BenchLike(Protocol):
    """What a search measures with; see `variants.Bench`."""

    def remaining_s(self) -> float: ...  # noqa: D102
    def make(self, variant: Variant) -> tuple[str, ...]: ...  # noqa: D102
    def time(self, variant: Variant, frames: int) -> list[float]: ...  # noqa: D102
    def groups(self, variant: Variant) -> list[Group]: ...  # noqa: D102
    def judge(self, variant: Variant) -> None: ...  # noqa: D102
    def drop(self, variant: Variant) -> None: ...  # noqa: D102


@dataclass
class Search:
    """Looks for the best settings of engines.

    Args:
        bench: measures.
        cores: that this process may use.
        instruction_sets: other values of ONEDNN_MAX_CPU_ISA that are worth a try.
        report: told what is tried, and what it gave.
    """

    bench: BenchLike
    cores: int
    instruction_sets: Sequence[str] = ()
    report: Callable[[str], None] = lambda _: None
    tried: list[Trial] = field(default_factory=list)

    def run(self, engines: Sequence[tuple[str, str]]) -> Tuned:
        """Search until all was tried or the bench's time is over.

        Args:
            engines: with their precisions, the most promising first.
        """
        latency: list[Setting] = []
        throughput: list[Setting] = []
        with_time = list(engines)
        for number, (engine, precision) in enumerate(with_time):
            share_s = self.bench.remaining_s() / (len(with_time) - number)
            stop_s = self.bench.remaining_s() - share_s
            try:
                found = self._fastest(Variant(engine, precision), stop_s, CONFIRMED * share_s)
                if found is None:
                    continue
                latency.append(found)
                # Several batches at once are of no use to an engine that takes one.
                if self.cores > 1 and engine != "torch":
                    throughput.append(self._most(found))
            except OutOfTime:
                self.report("the time is over")
                break
        latency.sort(key=lambda one: one.ms)
        throughput.sort(key=lambda one: one.ms)
        return Tuned(tuple(latency), tuple(throughput), tuple(self.tried))

    def carry_over(self, setting: Setting) -> Tuned:
        """Compare what was found for one frame with the engine's own choice, for the batches of this bench.

        Returns:
            Empty where the time was over, or the engine does not work with such batches.
        """
        plain = Variant(setting.engine, setting.precision)
        try:
            self.bench.make(plain)
            best = replace(plain, options=setting.options)
            self.bench.make(best)
            found = self._confirmed(plain, best, len(self.tried), patient=False)
        except (OutOfTime, VariantError) as error:
            self._note(plain.describe(), str(error))
            return Tuned()
        return Tuned((found,), (), tuple(self.tried))

    def _fastest(self, plain: Variant, stop_s: float, reserve_s: float) -> Setting | None:
        """One batch at a time; `stop_s` are to be left over, and `reserve_s` more for what was found."""
        try:
            own = self.bench.make(plain)
        except VariantError as error:
            self._note(plain.describe(), str(error))
            return None
        best, kernels, sure, first = plain, own, _Evidence(), len(self.tried)
        for step in self._steps(plain):
            began_s = self.bench.remaining_s()
            if began_s <= stop_s + reserve_s:
                self.report(f"{plain.engine} {plain.precision}: its share of the time is over")
                break
            options = step(best.options)
            if options == best.options:
                continue
            try:
                better = self._try(best, replace(best, options=options), kernels, sure)
            except OutOfTime:
                if best == plain:
                    raise
                break
            if better is not None:
                if best != plain:
                    self.bench.drop(best)
                best, kernels = better
            # On a machine that is busy with other work a step takes many times as long.
            reserve_s = max(reserve_s, AGAIN * (began_s - self.bench.remaining_s()))
        try:
            return self._confirmed(plain, best, first)
        except OutOfTime:
            if best == plain:
                raise
            self._note(best.describe(), "the time was over before it was measured again: it is as it was")
            return _setting(best, sure.plain_ms * sure.ratio, sure.plain_ms, sure.confidence)

    def _confirmed(self, plain: Variant, best: Variant, first: int, patient: bool = True) -> Setting:
        """Fresh rounds: the best of many looks faster than it is. Its steps are tried[first:]."""
        if best != plain:
            comparison, plain_ms, best_ms = self._compare(plain, best, patient)
            kept = comparison.ratio < 1 and comparison.confidence >= SURE
            note = ""
            if kept:
                try:
                    self.bench.judge(best)
                except VariantError as error:
                    kept, note = False, str(error)
            self._add(f"{best.describe()}, against the engine's own choice", comparison, kept, note)
            self.bench.drop(best)
            if kept:
                return _setting(best, best_ms, plain_ms, comparison.confidence)
            self.tried[first:] = [
                replace(trial, kept=False, note=NOT_CONFIRMED) if trial.kept else trial
                for trial in self.tried[first:]
            ]
        else:
            plain_ms = float(np.median(self.bench.time(plain, self._frames(plain))))
        return _setting(plain, plain_ms, plain_ms, 0.5)

    def _most(self, fastest: Setting) -> Setting:
        """Several batches at once, of the engine set as it is fastest with one."""
        one = Variant(fastest.engine, fastest.precision, 1, fastest.options)
        self.bench.make(one)
        best, best_ms, confidence = one, fastest.ms, fastest.confidence
        for parallel in _numbers(self.cores):
            options = replace(fastest.options, threads=0, pinned=None)
            candidate = replace(one, parallel=parallel, options=options)
            try:
                self.bench.make(candidate)
            except VariantError as error:
                self._note(candidate.describe(), str(error))
                continue
            comparison, _, candidate_ms = self._compare(best, candidate)
            kept = _better(comparison)
            self._add(candidate.describe(), comparison, kept)
            if kept:
                best, best_ms, confidence = candidate, candidate_ms, comparison.confidence
        return _setting(best, best_ms, fastest.plain_ms, confidence)

    def _try(
        self, best: Variant, candidate: Variant, kernels: tuple[str, ...], sure: _Evidence
    ) -> tuple[Variant, tuple[str, ...]] | None:
        changed = _change(best.options, candidate.options)
        what = f"{candidate.engine} {candidate.precision}: {changed}"
        try:
            executed = self.bench.make(candidate)
        except VariantError as error:
            self._note(what, str(error))
            return None
        kernels_alone = replace(candidate.options, kernels=()) == replace(best.options, kernels=())
        if kernels_alone and executed == kernels:
            self.bench.drop(candidate)
            self._note(what, "these kernels compute it already, or cannot")
            return None
        comparison, best_ms, _ = self._compare(best, candidate)
        kept = _better(comparison)
        self._add(what, comparison, kept)
        if kept:
            sure.add(comparison, best_ms)
            return candidate, executed
        self.bench.drop(candidate)
        return None

    def _compare(
        self, one: Variant, other: Variant, patient: bool = False
    ) -> tuple[Comparison, float, float]:
        """Interleaved rounds; with the median of each."""
        pair = (one, other)
        frames = [self._frames(variant) for variant in pair]
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(ROUNDS * (2 if patient else 1)):
            # Whoever comes second finds the machine as the first one left it: they change places.
            for place in (0, 1) if number % 2 == 0 else (1, 0):
                times[place].append(float(np.median(self.bench.time(pair[place], frames[place]))))
            if number + 1 == HOPELESS_AFTER and not patient and min(map(_ratio, *times)) > 1:
                break
        medians = [float(np.median(found)) for found in times]
        return compare(*times), medians[0], medians[1]

    def _frames(self, variant: Variant) -> int:
        # The first is warm-up too.
        (ms,) = self.bench.time(variant, 1)
        return max(2, variant.parallel, min(50, round(ROUND_MS / max(ms, 0.01))))

    def _steps(self, plain: Variant) -> Iterator[Callable[[Options], Options]]:
        """Changes of what was best until then, the most promising first."""
        if plain.engine == "openvino":
            if plain.precision == "int8":
                yield _with(bytes_between=True)
            if plain.precision != "fp32":
                # In fp32 any wish makes OpenVINO 2026.4 take matrix multiplication, 4 to 8 times slower.
                yield from (_with_kernel(EVERY_LAYER, family) for family in FAMILIES)
            yield from (_with(isa=isa) for isa in self.instruction_sets)
        yield from (_with(threads=threads) for threads in _fewer(self.cores))
        if plain.engine == "openvino":
            yield from (_with(pinned=pinned) for pinned in (True, False))
            if plain.precision != "fp32":
                yield from self._groups(plain)
        if plain.engine == "onnxruntime":
            yield _with(execution="parallel")
            yield from (_with(optimisation=level) for level in ("extended", "basic"))
        if plain.engine == "torch":
            yield _with(layout="contiguous")

    def _groups(self, plain: Variant) -> Iterator[Callable[[Options], Options]]:
        try:
            groups = self.bench.groups(plain)
        except VariantError as error:
            self._note(f"{plain.describe()}: groups of layers", str(error))
            return
        for group in groups:
            if group.share >= SMALL_SHARE:
                floats = (FLOAT,) if plain.precision == "int8" else ()
                yield from (_with_kernel(group.name, family) for family in (*FAMILIES, *floats))

    def _note(self, what: str, note: str) -> None:
        self.tried.append(Trial(what, note=note))
        self.report(f"{what}: {note}")

    def _add(self, what: str, comparison: Comparison, kept: bool, note: str = "") -> None:
        self.tried.append(Trial(what, comparison.ratio, comparison.confidence, kept, note))
        verdict = "kept" if kept else note or "not kept"
        self.report(
            f"{what}: {comparison.ratio:.3f} of the time, {comparison.confidence:.0%} sure: {verdict}"
        )


@dataclass
class _Evidence:
    """What the steps that were kept gained together, and of the least sure one how sure it is."""

    plain_ms: float = 0.0
    ratio: float = 1.0
    confidence: float = 1.0

    def add(self, comparison: Comparison, before_ms: float) -> None:
        """Take in a step, from a time before it."""
        self.plain_ms = self.plain_ms or before_ms
        self.ratio *= comparison.ratio
        self.confidence = min(self.confidence, comparison.confidence)


def _ratio(one: float, other: float) -> float:
    return other / one


def _better(comparison: Comparison) -> bool:
    return comparison.ratio <= 1 - GAIN and comparison.confidence >= SURE


def _setting(variant: Variant, ms: float, plain_ms: float, confidence: float) -> Setting:
    numbers = round(ms, 3), round(plain_ms, 3)
    return Setting(variant.engine, variant.precision, variant.parallel, variant.options, *numbers, confidence)


def _with(**changed: object) -> Callable[[Options], Options]:
    return lambda options: replace(options, **changed)  # type: ignore[arg-type]


def _with_kernel(group: str, family: str) -> Callable[[Options], Options]:
    def change(options: Options) -> Options:
        others = tuple(pair for pair in options.kernels if pair[0] != group)
        return replace(options, kernels=(*others, (group, family)))

    return change


def _change(before: Options, after: Options) -> str:
    pairs: Iterable[tuple[str, str]] = (pair for pair in after.kernels if pair not in before.kernels)
    changed = {name: value for name, value in after.to_json().items() if value != before.to_json().get(name)}
    changed.pop("kernels", None)
    return replace(PLAIN, kernels=tuple(pairs), **changed).describe()


def _fewer(cores: int) -> list[int]:
    """Fewer threads than cores: by halves."""
    found = []
    while cores > 1:
        cores //= 2
        found.append(cores)
    return found


def _numbers(cores: int) -> list[int]:
    """Batches at once: by doubles, and one for each core."""
    return sorted({*(2**power for power in range(1, 6) if 2**power <= cores), cores} - {1})
