"""The search inside engines keeps what is surely faster, within its time; nothing real is timed here."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_bench import FAMILIES, INT8, FakeBench, by_options

from rt_segmentation.benchmark import search as module
from rt_segmentation.benchmark.comparing import compare
from rt_segmentation.benchmark.search import Search
from rt_segmentation.benchmark.variants import Bench, OutOfTime, Variant, VariantError
from rt_segmentation.commands import tune_inside
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.tuned import NOT_CONFIRMED, Setting, Tuned


def test_what_is_faster_is_kept_and_what_is_not_is_told() -> None:
    said: list[str] = []
    bench = FakeBench(by_options)
    found = Search(bench, 2, ("BROKEN",), said.append, families=FAMILIES).run([INT8])
    (best,) = found.latency
    assert best.options.kernels == (("*", "jit_avx512"), ("big", "jit_avx2"))
    assert best.options == Options(kernels=best.options.kernels, bytes_between=True)
    assert 0.55 < best.ms / best.plain_ms < 0.8 and best.confidence >= module.SURE
    (rate,) = found.throughput
    assert rate.parallel == 2 and rate.ms < best.ms
    tried = {trial.what: trial for trial in found.tried}
    assert len(tried) == len(found.tried)
    kept = [what for what, trial in tried.items() if trial.kept]
    assert kept[:3] == [
        "openvino int8: bytes between the convolutions",
        "openvino int8: jit_avx512 for every convolution",
        "openvino int8: jit_avx2 for convolutions big",
    ]
    slower = tried["openvino int8: 1 thread for each frame"]
    assert slower.ratio and slower.ratio > 1.2 and slower.confidence is not None and slower.confidence < 0.5
    assert tried["openvino int8: instructions up to BROKEN"].note == "no such instructions"
    assert tried["openvino int8: float for convolutions big"].ratio
    # What computes it already is not measured; small groups are left alone.
    assert "already" in tried["openvino int8: jit_avx512 for convolutions big"].note
    assert not any("small" in what for what in tried)
    assert len(said) == len(found.tried)


@pytest.mark.parametrize(("ratio", "rounds"), [(30.0, 1), (1.5, 3)])
def test_what_is_far_too_slow_is_let_go_at_once(ratio: float, rounds: int) -> None:
    def far(variant: Variant) -> float:
        return 10.0 * (ratio if variant.options.threads else 1.0)

    class Listed(FakeBench):
        slow = 0

        def time(self, variant: Variant, frames: int) -> list[float]:
            self.slow += bool(variant.options.threads)
            return super().time(variant, frames)

    bench = Listed(far)
    (trial,) = (one for one in Search(bench, 2).run([INT8]).tried if "1 thread" in one.what)
    assert trial.ratio == pytest.approx(ratio, rel=0.3) and not trial.kept
    # Once before the rounds, to see how many frames a round takes.
    assert bench.slow == 1 + rounds


def test_where_nothing_helps_all_stays_as_it_is() -> None:
    found = Search(FakeBench(lambda variant: 10.0), 2, ("AVX2",), families=FAMILIES).run(
        [INT8, ("torch", "fp32")]
    )
    assert [one.options for one in found.latency] == [PLAIN, PLAIN]
    assert [one.parallel for one in found.throughput] == [1]
    assert not any(trial.kept for trial in found.tried) and len(found.tried) > 5


def test_what_gives_other_labels_is_not_taken() -> None:
    bench = FakeBench(by_options)
    bench.refused = lambda variant: variant.options != PLAIN
    (best,) = Search(bench, 1, families=FAMILIES).run([INT8]).latency
    assert best.options == PLAIN and best.ms == best.plain_ms


def test_steps_that_do_not_hold_together_are_not_told_as_kept() -> None:
    bench = FakeBench(by_options)
    bench.refused = lambda variant: bool(variant.options.kernels)
    found = Search(bench, 1, families=FAMILIES).run([INT8])
    assert found.latency[0].options == PLAIN and not any(trial.kept for trial in found.tried)
    lost = [trial for trial in found.tried if trial.note == NOT_CONFIRMED]
    assert lost and all(trial.ratio and trial.ratio < 1 for trial in lost)
    *_, count, why = tune_inside.describe(found)
    assert count.endswith(", none kept") and why.startswith(f"{len(lost)} were faster as a step, but not")


def test_what_was_found_is_measured_for_batches_too() -> None:
    setting = Setting(*INT8, 1, Options(kernels=(("*", "jit_avx512"),)), 18.0, 20.0, 0.99)
    (found,) = Search(FakeBench(by_options), 2).carry_over(setting).latency
    assert found.options == setting.options and found.ms < found.plain_ms
    slower = replace(setting, options=Options(kernels=(("*", "jit_avx2"),)))
    (found,) = Search(FakeBench(by_options), 2).carry_over(slower).latency
    assert found.options == PLAIN
    broken = replace(setting, options=Options(isa="BROKEN"))
    assert Search(FakeBench(by_options), 2).carry_over(broken) == Tuned()
    assert Search(FakeBench(by_options, 0.5), 2).carry_over(setting) == Tuned()


class CountingBench(FakeBench):
    """Counts how often it timed something."""

    timed = 0

    def time(self, variant: Variant, frames: int) -> list[float]:
        self.timed += 1
        return super().time(variant, frames)


def test_a_second_search_confirms_what_the_first_found_and_tries_nothing_again() -> None:
    first = CountingBench(by_options)
    found = Search(first, 2, ("BROKEN",), families=FAMILIES).run([INT8])
    assert found.finished == ("openvino int8",)
    second = CountingBench(by_options)
    said: list[str] = []
    again = Search(second, 2, ("BROKEN",), said.append, found, FAMILIES).run([INT8])
    assert [one.options for one in again.latency] == [one.options for one in found.latency]
    assert [one.parallel for one in again.throughput] == [2] and again.finished == found.finished
    assert {trial.what for trial in again.tried} == {trial.what for trial in found.tried}
    assert 0 < second.timed < first.timed / 4
    assert len(said) == 2 and "against the engine's own choice" in said[0] and "2 concurrently" in said[1]
    # Its times are those of today.
    slow = Search(
        FakeBench(lambda variant: 3 * by_options(variant)), 2, (), earlier=found, families=FAMILIES
    ).run([INT8])
    assert slow.latency[0].ms > 2 * found.latency[0].ms


def test_a_second_search_where_nothing_helped_is_over_at_once() -> None:
    engines = [INT8, ("torch", "fp32")]
    found = Search(FakeBench(lambda variant: 10.0), 2, ("AVX2",), families=FAMILIES).run(engines)
    again = CountingBench(lambda variant: 10.0)
    assert Search(again, 2, ("AVX2",), earlier=found).run(engines).tried == found.tried
    assert again.timed == 4


def test_a_small_gain_is_not_lost_on_a_noisy_day() -> None:
    threads = Options(threads=1)
    known = Setting(*INT8, 1, threads, 19.0, 20.0, 0.99)
    at_once = replace(known, parallel=2, options=PLAIN)
    earlier = Tuned((known,), (at_once,), finished=("openvino int8",))

    def faster(variant: Variant) -> float:
        return (19.0 if variant.options == threads else 20.0) * (0.9 if variant.parallel == 2 else 1.0)

    lost = 0
    for seed in range(30):
        search = Search(FakeBench(faster, noise=0.15, seed=seed), 2, earlier=earlier)
        lost += search._still_true(known) is None
        lost += search._most(known).parallel == 1
    assert lost <= 6


def test_what_other_engines_gave_for_batches_stays() -> None:
    of_torch = Setting("torch", "fp32", 1, PLAIN, 9.0, 9.0, 0.5)
    old = Setting(*INT8, 1, PLAIN, 20.0, 20.0, 0.5)
    earlier = Tuned((old, of_torch))
    kernels = replace(old, options=Options(kernels=(("*", "jit_avx512"),)))
    found = Search(FakeBench(by_options), 1, earlier=earlier).carry_over(kernels)
    assert [one.engine for one in found.latency] == ["openvino", "torch"]
    assert found.latency[0].options == kernels.options


def test_what_is_no_longer_faster_is_searched_again() -> None:
    found = Search(FakeBench(by_options), 1).run([INT8])

    def otherwise(variant: Variant) -> float:
        return 40.0 if variant.options.kernels else 16.0 if variant.options.bytes_between else 20.0

    bench = FakeBench(otherwise)
    (best,) = Search(bench, 1, earlier=found).run([INT8]).latency
    assert best.options == Options(bytes_between=True)
    bench = FakeBench(lambda variant: 10.0)
    again = Search(bench, 1, earlier=found).run([INT8])
    assert again.latency[0].options == PLAIN and not any(trial.kept for trial in again.tried)


def test_what_had_no_time_is_tried_by_the_next_search() -> None:
    seconds = 12.0
    while not (found := Search(FakeBench(by_options, seconds), 1, families=FAMILIES).run([INT8])).latency:
        seconds += 2.0
    assert found.finished == () and found.latency[0].options != PLAIN
    tried = {trial.what for trial in found.tried}
    bench = FakeBench(by_options)
    again = Search(bench, 1, earlier=found, families=FAMILIES).run([INT8])
    assert again.finished == ("openvino int8",) and tried < {trial.what for trial in again.tried}
    assert again.latency[0].options == Options(
        kernels=(("*", "jit_avx512"), ("big", "jit_avx2")), bytes_between=True
    )


def test_what_other_searches_found_stays() -> None:
    found = Search(FakeBench(by_options), 1).run([INT8])
    bench = FakeBench(lambda variant: 10.0)
    both = Search(bench, 1, earlier=found).run([("onnxruntime", "fp32")])
    assert {one.engine for one in both.latency} == {"openvino", "onnxruntime"}
    assert both.finished == ("openvino int8", "onnxruntime fp32")
    assert Search(FakeBench(by_options, 0.05), 1, earlier=both).run([INT8]) == replace(both, date="")


@pytest.mark.parametrize("seconds", [0.05, 1.0, 5.0, 12.0])
def test_the_time_is_kept(seconds: float) -> None:
    bench = FakeBench(by_options, seconds)
    found = Search(bench, 2).run([INT8])
    assert bench.remaining_s() > -0.11
    assert len(found.latency) <= 1 and all(trial.what for trial in found.tried)


def test_what_was_kept_is_not_lost_when_the_time_is_over_before_it_is_measured_again() -> None:
    bench = FakeBench(by_options, 1e6)
    search = Search(bench, 1)
    add = search._add

    def then_none(*arguments: Any) -> None:
        add(*arguments)
        if arguments[2]:
            bench.end()

    search._add = then_none  # type: ignore[assignment, method-assign]
    (best,) = search.run([INT8]).latency
    assert best.options == Options(bytes_between=True) and best.ms < best.plain_ms
    assert "before it was measured again" in search.tried[-1].note


@pytest.mark.parametrize("after", [0, 1, 30])
def test_what_fails_while_it_is_timed_is_noted_and_all_else_stays(after: int) -> None:
    """As a process that ends: the setting that does is no choice, nor an engine that always does."""

    class Failing(FakeBench):
        times = 0

        def time(self, variant: Variant, frames: int) -> list[float]:
            self.times += variant.options.bytes_between
            if variant.engine == "torch" or (variant.options.bytes_between and self.times > after):
                raise VariantError("its process ended with status -11")
            return super().time(variant, frames)

    found = Search(Failing(by_options), 2).run([INT8, ("torch", "fp32")])
    assert [one.engine for one in found.latency] == [one.engine for one in found.throughput] == ["openvino"]
    assert not found.latency[0].options.bytes_between
    failed = [trial.what for trial in found.tried if "status -11" in trial.note]
    assert any("bytes between" in what for what in failed) and any("torch fp32" in what for what in failed)
    known = replace(found.latency[0], options=Options(bytes_between=True))
    bench = Failing(by_options)
    bench.times = after
    again = Search(bench, 1, earlier=Tuned(latency=(known,))).run([INT8])
    assert len(again.latency) == 1 and not again.latency[0].options.bytes_between


def test_confidence_is_that_of_the_rounds() -> None:
    steady = compare([10.0] * 8, [9.0] * 8)
    assert steady.ratio == 0.9 and steady.confidence == pytest.approx(1 - 0.5 / 2**8, abs=1e-4)
    assert compare([9.0] * 8, [10.0] * 8).confidence < 0.01
    assert compare([10.0] * 8, [10.0] * 8).confidence == 0.5
    # One pause of the machine says little.
    assert 0.2 < compare([10.0] * 7 + [500.0], [10.1, 9.9] * 4).confidence < 0.95
    assert compare([10.0] * 2, [5.0] * 2).confidence < module.SURE


def test_no_process_is_started_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("enet", 1, 64, 64, time.monotonic())
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(OutOfTime):
        bench.make(Variant(*INT8))
    bench.close()


def test_a_process_that_hangs_or_dies_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real: Any = subprocess.Popen
    started: list[Any] = []

    def popen(code: str) -> Callable[..., object]:
        def start(_: object, **options: object) -> object:
            started.append(real([sys.executable, "-c", code], **options))
            return started[-1]

        return start

    monkeypatch.setattr(subprocess, "Popen", popen("import time; time.sleep(600)"))
    with pytest.raises(OutOfTime):
        Bench("enet", 1, 64, 64, time.monotonic() + 0.2).make(Variant(*INT8))
    monkeypatch.setattr(subprocess, "Popen", popen("raise SystemExit(3)"))
    with pytest.raises(VariantError, match="ended with status 3"):
        Bench("enet", 1, 64, 64, time.monotonic() + 60).make(Variant(*INT8))
    assert all(process.poll() is not None for process in started)
