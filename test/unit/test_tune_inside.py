"""`rt_seg tune` and the search inside engines: its budget, what it leaves behind, and what it tells."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rt_segmentation.benchmark.search import Search
from rt_segmentation.benchmark.variants import Bench, Variant, VariantError
from rt_segmentation.cli import main
from rt_segmentation.commands import tune_inside
from rt_segmentation.commands.options import OptionError
from rt_segmentation.commands.progress import TimeBar
from rt_segmentation.inference.options import PLAIN, Options
from rt_segmentation.inference.tuned import Setting, Tuned, recall, remember
from rt_segmentation.inference.tuning import Timing
from rt_segmentation.models import ModelManifest

INT8 = ("openvino", "int8")


@pytest.mark.parametrize(
    ("budget", "thorough", "seconds"), [(None, False, 120), (None, True, 600), (7.5, False, 7.5)]
)
def test_the_budget(budget: float | None, thorough: bool, seconds: float) -> None:
    assert tune_inside.budget_s(argparse.Namespace(budget=budget, thorough=thorough)) == seconds


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_a_bad_budget_is_one_sentence(budget: float) -> None:
    with pytest.raises(OptionError, match="is not a number of seconds from 0 up, as 120"):
        tune_inside.budget_s(argparse.Namespace(budget=budget, thorough=False))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_bad_seconds_are_one_sentence(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "enet", "--seconds", seconds]) == 2
    assert "is not a number of seconds above 0, as 30" in capsys.readouterr().err


TIMINGS = [Timing("openvino", "int8", 10.0), Timing("onnxruntime", "fp32", 17.0), Timing("x", "fp32", 9.0)]
FOUND = Tuned((Setting(*INT8, 1, Options(threads=1), 5.0, 10.0, 0.99),))


def test_an_interrupted_search_leaves_what_there_was(
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    earlier = remember(small_model, 1, 64, 64, replace(FOUND, seconds=77.0))
    engines: list[object] = []

    def interrupted(self: Search, searched: object) -> Tuned:
        engines.append(searched)
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune_inside.tune_inside(small_model, (), 64, 64, TIMINGS, 60.0)
    assert engines == [[INT8]] and recall(small_model, 1, 64, 64) == earlier
    monkeypatch.setattr(Search, "run", lambda self, searched: Tuned())
    assert tune_inside.tune_inside(small_model, (), 64, 64, TIMINGS, 60.0) is None
    assert "nothing is changed; give a longer --budget" in capsys.readouterr().err
    assert recall(small_model, 1, 64, 64) == earlier
    assert tune_inside.tune_inside(small_model, (), 64, 64, TIMINGS, 0.0) is None
    monkeypatch.setattr(Search, "run", lambda self, searched: FOUND)
    found = tune_inside.tune_inside(small_model, (), 64, 64, TIMINGS, 60.0)
    assert found is not None and recall(small_model, 1, 64, 64) == found != earlier


def test_what_was_found_decides_the_order_and_is_told() -> None:
    assert [tune_inside.with_found(one, FOUND, PLAIN).median_ms for one in TIMINGS] == [5.0, 17.0, 9.0]
    # What was timed as it was found is as fast as it was timed; set otherwise, it tells nothing.
    same, other = FOUND.latency[0].options, Options(threads=7)
    assert [tune_inside.with_found(TIMINGS[0], FOUND, so).median_ms for so in (same, other)] == [10.0, 5.0]
    (line,) = tune_inside.describe(FOUND)
    assert line == (
        "lowest latency: openvino int8, 1 thread for each frame: 5.0 ms a frame for 10.0, 99% sure"
    )


def test_time_goes_on_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bar = TimeBar(60.0)
    bar("jit_avx512: kept")
    assert capsys.readouterr().err == "0 of 60 s: jit_avx512: kept\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar("x" * 1000)
    bar.close()
    assert terminal.getvalue().startswith("\r") and len(terminal.getvalue()) < 200


def test_batches_get_what_was_found_for_one_frame(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels = Options(kernels=(("*", "jit_avx512"),))
    found = Tuned((Setting(*INT8, 1, kernels, 5.0, 10.0, 0.99),))
    monkeypatch.setattr(Search, "run", lambda self, searched: found)
    monkeypatch.setattr(Search, "carry_over", lambda self, one: Tuned((replace(one, ms=19.0),)))
    tune_inside.tune_inside(small_model, (2,), 64, 64, TIMINGS, 60.0)
    assert recall(small_model, 2, 64, 64).latency[0].ms == 19.0 and not recall(small_model, 4, 64, 64).latency
    # What an engine gave that is not searched now says nothing here, and stays.
    of_torch = Setting("torch", "fp32", 1, kernels, 1.0, 1.0, 0.5)
    remember(small_model, 4, 64, 64, Tuned((of_torch,)))
    monkeypatch.setattr(
        Search, "run", lambda self, searched: replace(found, latency=(of_torch, *found.latency))
    )
    shown = tune_inside.tune_inside(small_model, (2,), 64, 64, TIMINGS, 60.0)
    assert shown is not None and shown.latency == found.latency
    assert len(recall(small_model, 1, 64, 64).latency) == 2
    # Threads alone are of one frame.
    monkeypatch.setattr(Search, "run", lambda self, searched: FOUND)
    tune_inside.tune_inside(small_model, (4,), 64, 64, TIMINGS, 60.0)
    assert recall(small_model, 4, 64, 64).latency == (of_torch,)


def test_a_search_from_the_beginning_leaves_what_is_known_of_other_engines(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    of_torch = Setting("torch", "fp32", 1, PLAIN, 9.0, 9.0, 0.5)
    known = Tuned((*FOUND.latency, of_torch), finished=("openvino int8", "torch fp32"))
    remember(small_model, 1, 64, 64, known)
    began: list[Tuned] = []
    time_limits: list[float] = []

    def run(self: Search, searched: object) -> Tuned:
        began.append(replace(self.earlier, date="", package=""))
        time_limits.append(self.bench.remaining_s())
        return self.earlier

    monkeypatch.setattr(Search, "run", run)
    for afresh, timings in ((False, TIMINGS), (True, TIMINGS), (True, [Timing("torch", "fp32", 9.0)])):
        tune_inside.tune_inside(small_model, (2, 4), 64, 64, timings, 60.0, afresh)
    # The second search kept nothing of OpenVINO.
    assert began == [known, known.of(["torch fp32"]), Tuned()]
    # A part is left over for batches where there is something to carry over.
    assert 40.0 < time_limits[0] < 48.1 and 50.0 < time_limits[2] < 60.0


def test_concurrent_batches_are_timed_by_full_waves(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the searches' stand-in for a bench does it."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bench = Bench(str(small_model.path), 1, 64, 64, time.monotonic() + 60)
    two = Variant("onnxruntime", "fp32", parallel=2)
    bench.make(two)
    assert [len(bench.time(two, frames)) for frames in (1, 2, 3)] == [2, 2, 4]
    bench.close()


@pytest.mark.long
def test_a_real_search_of_a_small_network(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune_inside, "cores", lambda: 2)
    started = time.monotonic()
    timings = [Timing("openvino", "fp32", 1.0)]
    found = tune_inside.tune_inside(small_model, (), 64, 64, timings, 60.0)
    assert time.monotonic() - started < 75
    assert found is not None and found.tried and found.latency[0].ms > 0
    assert any("2 concurrently" in trial.what for trial in found.tried)
    assert recall(small_model, 1, 64, 64) == found


ANSWERS = """
import json, sys
made = set()
for line in sys.stdin:
    asked = json.loads(line)
    name = json.dumps(asked["variant"])
    if asked["variant"]["parallel"] == 2 and asked["action"] == "time":
        raise SystemExit(3)
    if asked["action"] == "make":
        made.add(name)
    answer = {"kernels": [], "ms": [1.0]} if name in made else {"error": "not made"}
    print("\\x1e" + json.dumps(answer), flush=True)
"""


def test_a_variant_outlives_a_process_that_another_one_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda _, **options: real([sys.executable, "-S", "-c", ANSWERS], **options)
    )
    bench = Bench("enet", 1, 64, 64, time.monotonic() + 60)
    good, bad = Variant(*INT8), Variant(*INT8, parallel=2)
    for variant in (good, bad):
        bench.make(variant)
    with pytest.raises(VariantError, match="ended with status 3"):
        bench.time(bad, 1)
    assert bench.time(good, 1) == [1.0]
    bench.drop(bad)
    bench.close()
