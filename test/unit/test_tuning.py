"""What was measured on this machine decides what `auto` means; the rest is a default order."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rt_segmentation import cpu
from rt_segmentation.benchmark import engines as benchmark
from rt_segmentation.benchmark.engines import Group, Row
from rt_segmentation.cli import main
from rt_segmentation.commands import cache as cache_command
from rt_segmentation.commands import tune as command
from rt_segmentation.commands import tune_inside
from rt_segmentation.commands.options import OptionError, parse_size
from rt_segmentation.inference import cache, engines, tuning
from rt_segmentation.inference.engines import EngineError, EngineUnavailable, build_engine, choosing
from rt_segmentation.inference.options import Options
from rt_segmentation.inference.parity import Gate
from rt_segmentation.inference.tuned import Setting, Tuned
from rt_segmentation.inference.tuning import Timing, recall, remember
from rt_segmentation.models import ModelManifest

HEIGHT, WIDTH = 120, 160
TIMINGS = (
    Timing("torch", "fp32", 30.0),
    Timing("onnxruntime", "fp32", 10.0),
    Timing("openvino", "int8", 20.0),
)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choosing, "_NVIDIA", ())
    yield


def test_measurements_come_back_fastest_first(small_model: ModelManifest) -> None:
    assert recall(small_model, HEIGHT, WIDTH).timings == ()
    remember(small_model, HEIGHT, WIDTH, TIMINGS)
    record = recall(small_model, HEIGHT, WIDTH)
    assert [timing.engine for timing in record.timings] == ["onnxruntime", "openvino", "torch"]
    assert record.describe(record.timings[0]) == f"10.0 ms, measured here by `rt_seg tune` on {record.date}"
    remember(small_model, HEIGHT, WIDTH, TIMINGS[:1])
    assert recall(small_model, HEIGHT, WIDTH).timings == TIMINGS[:1]


def test_they_are_of_one_model_size_and_machine(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(small_model, HEIGHT, WIDTH, TIMINGS)
    assert recall(small_model, WIDTH, HEIGHT).timings == ()
    assert recall(replace(small_model, sha256="0" * 64), HEIGHT, WIDTH).timings == ()
    with monkeypatch.context() as other:
        other.setattr(tuning, "machine", lambda: "another machine")
        assert recall(small_model, HEIGHT, WIDTH).timings == ()
    # The same name and cores: a virtual machine may have less of its processor.
    monkeypatch.setattr("rt_segmentation.cpu.arithmetic", lambda: ("other",))
    assert recall(small_model, HEIGHT, WIDTH).timings == ()


def test_they_are_of_one_set_of_libraries(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(small_model, HEIGHT, WIDTH, TIMINGS)
    monkeypatch.setattr(tuning, "versions", lambda *_: {"openvino": "999"})
    assert recall(small_model, HEIGHT, WIDTH).timings == ()


@pytest.mark.parametrize(
    "times",
    [
        7,
        [{"engine": "torch"}],
        [{"engine": "a", "precision": "b", "median_ms": "c"}],
        [{"engine": ["torch"], "precision": "fp32", "median_ms": 1.0}],
    ],
)
def test_damaged_ones_are_told_and_the_order_is_the_default(
    times: object, small_model: ModelManifest, caplog: pytest.LogCaptureFixture
) -> None:
    cache.store(tuning._key(small_model, HEIGHT, WIDTH), {}, {"timings": times, "date": "2026-01-31"})
    assert recall(small_model, HEIGHT, WIDTH).timings == ()
    (said,) = caplog.messages
    assert "what `rt_seg tune` measured of model 'small' at 160x120 is not used" in said and "damaged" in said
    remember(small_model, HEIGHT, WIDTH, TIMINGS)
    assert len(recall(small_model, HEIGHT, WIDTH).timings) == len(TIMINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"parallel": 0}, {"parallel": 3000}, {"batch": -1}),
        *({"frames_hz": float("nan")}, {"frames_hz": float("inf")}, {"frames_hz": -3.0}),
    ],
)
def test_numbers_that_nobody_measured_are_damage(wrong: dict[str, Any], small_model: ModelManifest) -> None:
    rate = {"engine": "torch", "precision": "fp32", "parallel": 2, "batch": 1, "frames_hz": 9.0}
    for one, kept in ((rate, 1), (rate | wrong, 0)):
        content = {"timings": [], "date": "2026-01-31", "throughputs": [one]}
        cache.store(tuning._key(small_model, HEIGHT, WIDTH), {}, content)
        assert len(recall(small_model, HEIGHT, WIDTH).throughputs) == kept


class Fake:
    """An engine of a name that is said to have all precisions; int8 lacks something."""

    device = "here"
    warnings: tuple[str, ...] = ()

    def __init__(self, name: str, precision: str, gate: Gate) -> None:
        if precision == "int8":
            raise EngineUnavailable("the model has no int8 ranges")
        self.name, self.precision, self._gate = name, precision, gate

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        refusal = None if self.name == "torch" else self._gate.refusal(self.name, self.precision, 0.999)
        if refusal:
            raise EngineError(refusal)

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        self.prepare(*images.shape[:3])
        return images[..., 0], None

    def release(self, height: int, width: int) -> None:
        """Nothing to let go."""


class FakeClass:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, manifest: ModelManifest, precision: str, gate: Gate, parallel: int) -> Fake:
        return Fake(self._name, precision, gate)

    def precisions(self) -> tuple[str, ...]:
        return ("bf16", "fp32", "int8") if self._name == "openvino" else ("fp32",)


@pytest.fixture()
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_engine_class", FakeClass)


def test_auto_takes_the_fastest_at_its_size_and_says_why(
    small_model: ModelManifest, fakes: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    remember(small_model, HEIGHT, WIDTH, [Timing("openvino", "fp32", 20.0), Timing("torch", "fp32", 10.0)])
    engine = build_engine(small_model)
    assert (engine.name, engine.precision) == ("openvino", "bf16")
    assert caplog.messages[-1] == "engine 'openvino' in bf16 on here: default order"
    for _ in range(2):
        engine.infer(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), False)
        assert engine.name == "torch" and engine.warnings == ()
    (_, said) = caplog.messages
    assert said.startswith("engine 'torch' in fp32 on here: 10.0 ms, measured here by `rt_seg tune` on 20")
    engine.infer(np.zeros((1, 64, 64, 3), np.uint8), False)
    assert (engine.name, engine.precision) == ("openvino", "bf16")


def test_what_is_asked_for_by_name_stays(small_model: ModelManifest, fakes: None) -> None:
    remember(small_model, HEIGHT, WIDTH, [Timing("openvino", "fp32", 5.0), Timing("torch", "fp32", 1.0)])
    for asked, used in (("openvino", "auto"), ("openvino", "fp32")), (("auto", "fp32"), ("torch", "fp32")):
        engine = build_engine(small_model, *asked)
        engine.prepare(1, HEIGHT, WIDTH)
        assert (engine.name, engine.precision) == used


def test_a_winner_that_cannot_be_used_is_warned_of(small_model: ModelManifest, fakes: None) -> None:
    remember(small_model, HEIGHT, WIDTH, [Timing("openvino", "int8", 1.0), Timing("torch", "fp32", 2.0)])
    engine = build_engine(small_model)
    engine.prepare(1, HEIGHT, WIDTH)
    assert engine.name == "torch" and engine.warnings == ("the model has no int8 ranges",)


def test_a_winner_is_judged_with_the_users_threshold(small_model: ModelManifest, fakes: None) -> None:
    remember(
        small_model, HEIGHT, WIDTH, [Timing("onnxruntime", "fp32", 1.0), Timing("openvino", "fp32", 2.0)]
    )
    engine = build_engine(small_model, gate=Gate(fp32=1.01, half=1.01))
    engine.prepare(1, HEIGHT, WIDTH)
    assert engine.name == "torch"
    refused = [sentence.split(" gives ")[0] for sentence in engine.warnings]
    assert refused == [
        "engine 'onnxruntime' in fp32",
        "engine 'openvino' in fp32",
        "engine 'openvino' in bf16",
    ]


def test_the_command(
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def timed(group: Group, seconds: float, report: Callable[[str], None], limit_s: float) -> list[Row]:
        assert limit_s == command.BUILDING_S + seconds
        assert group.network == "small"
        rows = [Row(group.network, group.model, group.width, group.height, *c) for c in group.candidates]
        for place, row in enumerate(rows):
            row.median_ms = 50.0 - place
        rows[-1].median_ms, rows[-1].problem = None, "it gives other labels"
        return rows

    def at_once(
        row: Row,
        settings: list[tuple[int, int]],
        seconds: float,
        report: Callable[[str], None],
        limit_s: float,
    ) -> list[Row]:
        assert seconds < limit_s <= command.BUILDING_S + 1.5
        rows = [replace(row, batch=batch, fps=20.0 * parallel * batch) for parallel, batch in settings]
        rows[-1] = replace(rows[-1], fps=None, problem="no batch of 4")
        return rows

    monkeypatch.setattr(benchmark, "time_group", timed)
    monkeypatch.setattr(benchmark, "time_throughputs", at_once)
    monkeypatch.setattr(command, "cores", lambda: 2)
    monkeypatch.setattr(engines, "installed", lambda: [("torch", "fp32"), ("openvino", "bf16"), ("x", "y")])
    arguments = argparse.Namespace(
        model=str(small_model.path),
        size=["160x120", "64x48"],
        seconds=1.0,
        budget=0.0,
        thorough=False,
        engine=[],
        afresh=False,
        json=False,
    )
    command.main(arguments)
    out, said = capsys.readouterr()
    assert f"at most {command.BUILDING_S + 1.5:.0f} s for each size" in said
    assert "small 160x120" in out and "x y" in out and "refused: it gives other labels" in out
    assert recall(small_model, 120, 160).timings == (
        Timing("openvino", "bf16", 49.0),
        Timing("torch", "fp32", 50.0),
    )
    assert recall(small_model, 48, 64).timings
    at_once_found = [(t.parallel, t.batch, t.frames_hz) for t in recall(small_model, 120, 160).throughputs]
    assert at_once_found == [(1, 1, 20.0), (2, 1, 40.0), (1, 2, 40.0)]
    assert "40.0 Hz, 2 concurrently" in out and "40.0 Hz, batches of 2" in out
    cache_command.main(argparse.Namespace(action="list", json=False))
    assert "fastest: openvino bf16, 49.0 ms" in capsys.readouterr().out
    arguments.json = True
    shares = iter((0.25, 0.01))
    monkeypatch.setattr(cpu.Others, "share", lambda self: next(shares, 0.0))
    command.main(arguments)
    out, said = capsys.readouterr()
    (first, _) = json.loads(out)
    assert first["others_share"] == 0.25
    assert said.count("of the processor cores") == 1 and "meanwhile others took 25% of the proc" in said
    assert first["timings"][0]["engine"] == "openvino" and first["refused"] == {
        "x y": "it gives other labels"
    }
    # What took minutes is shown, whether or not it could be kept.
    with monkeypatch.context() as patch:
        patch.setattr(cache, "kept", lambda: False)
        with pytest.raises(EngineError, match="what was measured could not be kept in"):
            command.main(arguments)
    assert json.loads(capsys.readouterr().out)[0]["timings"]
    # Nothing is measured for a cache that cannot be written.
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", "/proc/none")
        with pytest.raises(EngineError, match=r"what is measured cannot be kept: .*/proc"):
            command.main(arguments)
    assert not capsys.readouterr().out
    monkeypatch.setattr(engines, "installed", lambda: [("x", "y")])
    with pytest.raises(EngineError, match="no engine works here: it gives other labels"):
        command.main(arguments)
    assert len([entry for entry in cache.entries() if entry.key["kind"] == "tuned"]) == 2


def test_a_second_run_measures_what_may_be_the_fastest(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[list[tuple[str, str]], float]] = []
    speed = 1.0

    def timed(group: Group, seconds: float, report: object, limit_s: float) -> list[Row]:
        asked.append((list(group.candidates), seconds))
        rows = [Row(group.network, group.model, group.width, group.height, *c) for c in group.candidates]
        own = {"openvino": 10.0, "onnxruntime": 14.0, "torch": 30.0, "x": 12.0}
        for row in rows:
            row.median_ms = speed * own[row.engine]
        return rows

    def at_once(row: Row, settings: list[tuple[int, int]], *_: object) -> list[Row]:
        return [replace(row, fps=100.0) for _ in settings]

    monkeypatch.setattr(benchmark, "time_group", timed)
    monkeypatch.setattr(benchmark, "time_throughputs", at_once)
    there = [("openvino", "fp32"), ("onnxruntime", "fp32"), ("torch", "fp32")]
    monkeypatch.setattr(engines, "installed", lambda: list(there))

    def tune(*more: str) -> list[Timing]:
        assert main(["tune", str(small_model.path), "--size", "64x64", "--budget", "0", *more]) == 0
        capsys.readouterr()
        return list(recall(small_model, 64, 64).timings)

    tune()
    first, again = there, there[:2]
    # A machine of half the speed, and an engine that was installed meanwhile.
    speed = 2.0
    there = [*there, ("x", "fp32")]
    found = tune()
    assert found == [
        Timing("openvino", "fp32", 20.0),
        Timing("x", "fp32", 24.0),
        Timing("onnxruntime", "fp32", 28.0),
        Timing("torch", "fp32", 60.0),
    ]
    assert asked == [(first, 30.0), ([*again, ("x", "fp32")], 9.0)]
    tune("--afresh")
    assert asked[-1] == (there, 30.0)
    # One engine alone: the others are what they were, on a machine that is slower once more.
    monkeypatch.setattr(choosing, "_engine_class", FakeClass)
    assert tune("--engine", "torch") == found and asked[-1][0] == [("torch", "fp32")]
    speed = 4.0
    assert tune("--engine", "torch") == [replace(t, median_ms=2 * t.median_ms) for t in found]
    rates = recall(small_model, 64, 64).throughputs
    assert {(rate.engine, rate.frames_hz) for rate in rates} == {("openvino", 50.0), ("torch", 100.0)}
    # What the search finds inside the engine is no change of the machine.
    setting = Setting("torch", "fp32", 1, Options(threads=1), 60.0, 120.0, 1.0)
    monkeypatch.setattr(tune_inside, "tune_inside", lambda *_: Tuned((setting,)))
    found_inside = tune("--engine", "torch")
    assert found_inside[:3] == [replace(t, median_ms=2 * t.median_ms) for t in found[:3]]
    assert found_inside[3] == Timing("torch", "fp32", 60.0)
    assert main(["tune", str(small_model.path), "--engine", "tensorflow"]) == 2
    assert "unknown engine 'tensorflow'; there are openvino, onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["640", "640x", "x360", "640x36o", "-1x5", "16x360", "99999x360", "9" * 5000 + "x360"]
)
def test_a_bad_size_is_one_sentence(text: str) -> None:
    with pytest.raises(OptionError, match=f"size '{text}' is not WIDTHxHEIGHT in px, as 640x360"):
        parse_size(text)
