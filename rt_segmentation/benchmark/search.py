"""How an engine is best set: step by step, each kept where the whole network is faster with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from rt_segmentation.benchmark.comparing import Comparison, compare
from rt_segmentation.benchmark.steps import change, numbers, steps
from rt_segmentation.benchmark.variants import Group, OutOfTime, Variant, VariantError
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.tuned import NOT_CONFIRMED, Setting, Trial, Tuned

ROUNDS = 8
HOPELESS = {1: 2.0, 3: 1.0}
"""After so many rounds, what took more than so many times the other's time in each of them is let go."""

ROUND_MS = 150.0
SURE = 0.95
"""A step is kept from this confidence on."""

GAIN = 0.01
"""And where it gains as much."""

CONFIRMED = 0.25
"""Of a search's time: what was found is measured once more, with fresh rounds, and judged."""

AGAIN = 2.0
"""To measure once more takes so many times as long as a step, at most."""

AGAINST = "against the engine's own choice"


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
        earlier: what a search found here before: what it found is compared with the engine's own choice once
            more, and what it tried is not tried again.
        families: of OpenVINO's kernels that this CPU can choose among.
    """

    bench: BenchLike
    cores: int
    instruction_sets: Sequence[str] = ()
    report: Callable[[str], None] = lambda _: None
    earlier: Tuned = field(default_factory=Tuned)
    families: Sequence[str] = ()
    tried: list[Trial] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

    def run(self, engines: Sequence[tuple[str, str]]) -> Tuned:
        """Search until all was tried or the bench's time is over.

        Args:
            engines: with their precisions, the most promising first.
        """
        self.tried, self.finished = list(self.earlier.tried), list(self.earlier.finished)
        latency = {one.name: one for one in self.earlier.latency}
        throughput = {one.name: one for one in self.earlier.throughput}
        with_time = list(engines)
        for number, (engine, precision) in enumerate(with_time):
            share_s = self.bench.remaining_s() / (len(with_time) - number)
            stop_s = self.bench.remaining_s() - share_s
            name = f"{engine} {precision}"
            try:
                known = self._still_true(latency.get(name))
                if known is None:
                    self._forget(name)
                    found = self._fastest(Variant(engine, precision), stop_s, CONFIRMED * share_s)
                else:
                    found = self._continued(known, stop_s, CONFIRMED * share_s)
                if found is None:
                    latency.pop(name, None)
                    throughput.pop(name, None)
                    continue
                latency[name] = found
                # Concurrent batches are of no use to an engine that takes one.
                if self.cores > 1 and engine != "torch":
                    throughput[name] = self._most(found)
            except OutOfTime:
                self.report("the time is over")
                break
            except VariantError as error:
                # What was measured of other engines holds.
                self._note(Variant(engine, precision).describe(), str(error))
                latency.pop(name, None)
                throughput.pop(name, None)
        return Tuned(
            tuple(sorted(latency.values(), key=lambda one: one.ms)),
            tuple(sorted(throughput.values(), key=lambda one: one.ms)),
            tuple(self.tried),
            finished=tuple(self.finished),
        )

    def carry_over(self, setting: Setting) -> Tuned:
        """Compare what was found for one frame with the engine's own choice, for the batches of this bench.

        Returns:
            With what was found of other engines earlier; empty where the time was over, or the engine does
            not work with such batches.
        """
        plain = Variant(setting.engine, setting.precision)
        try:
            self.bench.make(plain)
            best = replace(plain, options=setting.options)
            self.bench.make(best)
            found = self._confirmed(plain, best, (), patient=False)
        except (OutOfTime, VariantError) as error:
            self._note(plain.describe(), str(error))
            return Tuned()
        others = self.earlier.of(self.earlier.names - {setting.name})
        return replace(others, latency=(found, *others.latency), tried=(*others.tried, *self.tried))

    def _still_true(self, known: Setting | None) -> Setting | None:
        """What an earlier search found, with the times of today; None where that is no longer faster."""
        if known is None:
            return None
        plain = Variant(known.engine, known.precision)
        best = replace(plain, options=known.options)
        try:
            self.bench.make(plain)
            self.bench.make(best)
            if best == plain:
                plain_ms = float(np.median(self.bench.time(plain, self._frames(plain))))
                return _setting(plain, plain_ms, plain_ms, 0.5)
            comparison, plain_ms, best_ms = self._compare_known(plain, best)
        except VariantError as error:
            self._note(best.describe(), str(error))
            return None
        kept = comparison.ratio < 1
        note = "" if kept else "no longer: all is tried again"
        self._add(f"{best.describe()}, {AGAINST}", comparison, kept, note)
        return _setting(best, best_ms, plain_ms, comparison.confidence) if kept else None

    def _forget(self, name: str) -> None:
        """Let an engine's earlier trials and verdicts go."""
        self.tried = [trial for trial in self.tried if trial.of != name]
        self.finished = [other for other in self.finished if other != name]

    def _continued(self, known: Setting, stop_s: float, reserve_s: float) -> Setting:
        """What an earlier search found, and what it had no time to try."""
        if known.name in self.finished:
            return known
        return self._fastest(Variant(known.engine, known.precision), stop_s, reserve_s, known) or known

    def _fastest(
        self, plain: Variant, stop_s: float, reserve_s: float, known: Setting | None = None
    ) -> Setting | None:
        """One batch at a time; `stop_s` are to be left over, and `reserve_s` more for what was found.

        From what is known on; what was tried before is not tried again.
        """
        start = plain if known is None else replace(plain, options=known.options)
        try:
            kernels = self.bench.make(plain)
            if start != plain:
                kernels = self.bench.make(start)
        except VariantError as error:
            self._note(plain.describe(), str(error))
            return None
        best, sure, before = start, _Evidence(), list(self.tried)
        done = {trial.what for trial in self.tried}
        tried = steps(plain, self.cores, self.instruction_sets, self.families, lambda: self._groups(plain))
        for step in tried:
            began_s = self.bench.remaining_s()
            if began_s <= stop_s + reserve_s:
                self.report(f"{plain.engine} {plain.precision}: its share of the time is over")
                break
            options = step(best.options)
            if options == best.options or _what(best, options) in done:
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
        else:
            if self.bench.remaining_s() > stop_s + reserve_s:
                self.finished.append(f"{plain.engine} {plain.precision}")
        if known is not None and best == start:
            return known
        try:
            found = self._confirmed(plain, best, before)
            return known if known is not None and found.options == PLAIN else found
        except OutOfTime:
            if best == plain:
                raise
            why = "the time was over before it was measured again: it is as it was"
            self._note(f"{best.describe()}, {AGAINST}", why)
            return _setting(best, sure.plain_ms * sure.ratio, sure.plain_ms, sure.confidence)

    def _confirmed(
        self, plain: Variant, best: Variant, before: Sequence[Trial], patient: bool = True
    ) -> Setting:
        """Fresh rounds: the best of many looks faster than it is. Its steps are those not tried before."""
        if best != plain:
            found = self._judged(plain, best, patient)
            if found is None or found.options != best.options:
                self.tried = [
                    replace(trial, kept=False, note=NOT_CONFIRMED)
                    if trial.kept and trial not in before
                    else trial
                    for trial in self.tried
                ]
            if found is not None:
                return found
        plain_ms = float(np.median(self.bench.time(plain, self._frames(plain))))
        return _setting(plain, plain_ms, plain_ms, 0.5)

    def _judged(self, plain: Variant, best: Variant, patient: bool) -> Setting | None:
        """What was found if it is surely faster and passes the gate, else the plain one; None if it fails."""
        what = f"{best.describe()}, {AGAINST}"
        try:
            comparison, plain_ms, best_ms = self._compare(plain, best, patient)
        except VariantError as error:
            self.bench.drop(best)
            self._note(what, str(error))
            return None
        kept = comparison.ratio < 1 and comparison.confidence >= SURE
        note = ""
        if kept:
            try:
                self.bench.judge(best)
            except VariantError as error:
                kept, note = False, str(error)
        self._add(what, comparison, kept, note)
        self.bench.drop(best)
        if kept:
            return _setting(best, best_ms, plain_ms, comparison.confidence)
        return _setting(plain, plain_ms, plain_ms, 0.5)

    def _most(self, fastest: Setting) -> Setting:
        """Several batches concurrently, of the engine set as it is fastest with one."""
        one = Variant(fastest.engine, fastest.precision, 1, fastest.options)
        self.bench.make(one)
        best, best_ms, confidence = one, fastest.ms, fastest.confidence
        for parallel in numbers(self.cores):
            options = replace(fastest.options, threads=0, pinned=None)
            candidate = replace(one, parallel=parallel, options=options)
            # What was faster is measured once more, what was not is left out.
            if any(trial.what == candidate.describe() and not trial.kept for trial in self.tried):
                continue
            known = any(
                (one.name, one.parallel) == (fastest.name, parallel) for one in self.earlier.throughput
            )
            measure = self._compare_known if known else self._compare
            try:
                self.bench.make(candidate)
                comparison, _, candidate_ms = measure(best, candidate)
            except VariantError as error:
                self._note(candidate.describe(), str(error))
                continue
            kept = comparison.ratio < 1 if known else _better(comparison)
            self._add(candidate.describe(), comparison, kept)
            if kept:
                best, best_ms, confidence = candidate, candidate_ms, comparison.confidence
        return _setting(best, best_ms, fastest.plain_ms, confidence)

    def _try(
        self, best: Variant, candidate: Variant, kernels: tuple[str, ...], sure: _Evidence
    ) -> tuple[Variant, tuple[str, ...]] | None:
        what = _what(best, candidate.options)
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
        try:
            comparison, best_ms, _ = self._compare(best, candidate)
        except VariantError as error:
            # It may work, and end its process, or run out of memory, once it is run at length.
            self.bench.drop(candidate)
            self._note(what, str(error))
            return None
        kept = _better(comparison)
        self._add(what, comparison, kept)
        if kept:
            sure.add(comparison, best_ms)
            return candidate, executed
        self.bench.drop(candidate)
        return None

    def _compare_known(self, one: Variant, other: Variant) -> tuple[Comparison, float, float]:
        """As `_compare`, and at length where that leaves doubt.

        The other one was surely faster before: a noisy day is no reason to lose it, and a ratio below 1 is
        enough.
        """
        found = self._compare(one, other)
        doubtful = found[0].confidence < SURE and found[0].ratio < 1 + GAIN
        return self._compare(one, other, patient=True) if doubtful else found

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
            if not patient and min(map(_ratio, *times)) > HOPELESS.get(number + 1, math.inf):
                break
        medians = [float(np.median(found)) for found in times]
        return compare(*times), medians[0], medians[1]

    def _frames(self, variant: Variant) -> int:
        # The first is warm-up too.
        ms = self.bench.time(variant, 1)[0]
        return max(2, variant.parallel, min(50, round(ROUND_MS / max(ms, 0.01))))

    def _groups(self, plain: Variant) -> list[Group]:
        try:
            return self.bench.groups(plain)
        except (OutOfTime, VariantError) as error:
            self._note(f"{plain.describe()}: groups of layers", str(error))
            return []

    def _note(self, what: str, note: str) -> None:
        self._told(Trial(what, note=note))
        self.report(f"{what}: {note}")

    def _told(self, trial: Trial) -> None:
        """Take in a trial, in the place of an earlier one of the same."""
        self.tried = [*(other for other in self.tried if other.what != trial.what), trial]

    def _add(self, what: str, comparison: Comparison, kept: bool, note: str = "") -> None:
        self._told(Trial(what, comparison.ratio, comparison.confidence, kept, note))
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


def _what(best: Variant, options: Options) -> str:
    """A step in words, by which it is known whether it was tried."""
    return f"{best.engine} {best.precision}: {change(best.options, options)}"
