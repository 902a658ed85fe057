"""What was tuned inside an engine is applied where it was measured, behind the gate, and nowhere else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rt_segmentation import cpu
from rt_segmentation.inference import cache, records, tuned
from rt_segmentation.inference.engines import EngineError, build_engine, choosing
from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.options import FLOAT, INSTRUCTIONS, PLAIN, Options
from rt_segmentation.inference.tuned import Setting, Trial, Tuned, isa_for, options_for, recall, remember
from rt_segmentation.models import ModelManifest

HEIGHT, WIDTH = 48, 64
SIZE = (1, HEIGHT, WIDTH)
ALONE = Options(threads=1, kernels=(("*", "jit_avx512"), ("3x3 4>4 8x8", "jit_avx2")))
SEVERAL = Options(isa="AVX2")
FOUND = Tuned(
    (Setting("openvino", "fp32", 1, ALONE, 8.0, 10.0, 0.99),),
    (Setting("openvino", "fp32", 2, SEVERAL, 6.0, 10.0, 0.98),),
    (Trial("one thread", 0.8, 0.99, True), Trial("AVX2", note="it does not work here")),
    seconds=12.5,
)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    records._say_once.cache_clear()
    return tmp_path


@pytest.fixture(scope="module")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all engines: graph and reference are made once."""
    return tmp_path_factory.mktemp("engines")


def options(manifest: ModelManifest, parallel: int = 1, engine: str = "openvino") -> Options:
    return options_for(manifest, engine, "fp32", *SIZE, parallel)


def test_a_record_comes_back_whole(small_model: ModelManifest) -> None:
    assert recall(small_model, *SIZE) == Tuned()
    kept = remember(small_model, *SIZE, FOUND)
    assert kept.date and replace(kept, date="", package="") == FOUND
    assert recall(small_model, *SIZE) == kept
    assert json.loads(json.dumps(kept.to_json()))["latency"][0]["options"] == {
        "threads": 1,
        "kernels": [["*", "jit_avx512"], ["3x3 4>4 8x8", "jit_avx2"]],
    }


def test_one_frame_gets_the_lowest_latency_and_several_the_highest_rate(small_model: ModelManifest) -> None:
    assert options(small_model) == PLAIN
    remember(small_model, *SIZE, FOUND)
    assert options(small_model) == ALONE
    assert options(small_model, 2) == options(small_model, 3) == SEVERAL
    assert options(small_model, 1, "onnxruntime") == PLAIN
    # Threads of one frame are not those of each of two.
    remember(small_model, *SIZE, replace(FOUND, throughput=()))
    assert options(small_model, 2) == replace(ALONE, threads=0)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("machine", lambda: "another processor, 2 cores", ", and this is another processor, 2 cores"),
        ("versions", lambda *_: {}, "stale (openvino was 1, is none)"),
        ("versions", lambda *_: {"openvino": "2"}, "stale (openvino was 1, is 2)"),
        ("graph_version", lambda _: "0", "stale (graph_version was "),
        ("arithmetic", lambda: ["amx_int8"], "a processor of the same name with other arithmetic"),
    ],
)
def test_a_record_of_something_else_is_not_used(
    name: str,
    value: Callable[..., Any],
    why: str,
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tuned, "versions", lambda *_: {"openvino": "1"})
    kept = remember(small_model, *SIZE, FOUND)
    assert recall(small_model, 2, HEIGHT, WIDTH) == recall(small_model, 1, WIDTH, HEIGHT) == Tuned()
    assert not caplog.messages
    with monkeypatch.context() as patched:
        patched.setattr(cpu if name == "arithmetic" else tuned, name, value)
        for _ in range(3):
            assert options(small_model) == PLAIN
        (said,) = caplog.messages
        assert said.startswith("what `rt_seg tune` measured of model 'small' at 64x48 is not used, it is ")
        assert why in said and said.endswith("; `rt_seg tune` measures it again")
        # No word where it is measured again, or of sizes that nobody asked for.
        remember(small_model, *SIZE, Tuned(FOUND.throughput))
        assert recall(small_model, *SIZE).latency == FOUND.throughput
        assert isa_for(small_model) == SEVERAL.isa and len(caplog.messages) == 1
    # A record of another machine is not lost.
    assert recall(small_model, *SIZE).latency == (() if "stale" in why else kept.latency)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["latency"][0].update(options={"speed": 3}),
        lambda data: data["latency"][0].update(options={"isa": 5}),
        lambda data: data["latency"][0].update(options={"threads": "2"}),
        lambda data: data["latency"][0].update(options={"threads": -1}),
        lambda data: data["latency"][0].update(ms="fast"),
        lambda data: data["latency"][0].update(ms=float("nan")),
        lambda data: data["throughput"][0].update(parallel=3000),
        lambda data: data.update(latency=7),
        lambda data: data.pop("tried"),
    ],
)
def test_a_record_that_cannot_be_read_is_not_used(
    damage: Callable[[dict[str, Any]], Any], small_model: ModelManifest, caplog: pytest.LogCaptureFixture
) -> None:
    data = FOUND.to_json()
    damage(data)
    cache.store(tuned._key(small_model, *SIZE), {}, data)
    assert options(small_model) == PLAIN and isa_for(small_model) == ""
    assert "is damaged" in caplog.text and "is not used" in caplog.text


def test_a_file_that_is_cut_off_is_told_and_written_anew(
    small_model: ModelManifest, caplog: pytest.LogCaptureFixture, cache_home: Path
) -> None:
    remember(small_model, *SIZE, FOUND)
    (file,) = cache_home.glob("rt_segmentation/*-settings-*/entry.json")
    file.write_text(file.read_text()[:100])
    assert options(small_model) == PLAIN and "it is damaged (" in caplog.text
    remember(small_model, *SIZE, FOUND)
    assert options(small_model) == ALONE


def test_what_was_found_of_some_engines_is_told_apart() -> None:
    of_torch = Setting("torch", "fp32", 1, PLAIN, 9.0, 9.0, 0.5)
    trials = tuple(Trial(f"{name} fp32: 1 thread") for name in ("openvino", "torch"))
    both = Tuned((*FOUND.latency, of_torch), FOUND.throughput, trials, finished=("onnxruntime fp32",))
    assert both.names == {"openvino fp32", "torch fp32", "onnxruntime fp32"}
    assert both.of(["torch fp32"]) == Tuned((of_torch,), (), trials[1:])
    assert both.of(both.names) == both


def test_of_two_searches_of_a_day_the_later_one_counts(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = replace(FOUND, latency=(replace(FOUND.latency[0], options=SEVERAL),))
    remember(small_model, *SIZE, fast)
    later = remember(small_model, 1, WIDTH, HEIGHT, FOUND)
    assert isa_for(small_model) == FOUND.latency[0].options.isa == ""
    remember(small_model, *SIZE, fast)
    assert isa_for(small_model) == "AVX2"
    # A record of an earlier version has the day alone.
    monkeypatch.setattr(
        tuned,
        "recall",
        lambda _, __, height, ___, tell: replace(fast, date=later.date[:10]) if height == HEIGHT else later,
    )
    assert isa_for(small_model) == ""


def test_the_instruction_set_is_set_before_the_library_is_at_work(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(INSTRUCTIONS, raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    # What it sets is put back at the end.
    monkeypatch.setenv(INSTRUCTIONS, "")
    assert isa_for(small_model) == ""
    fast = replace(FOUND.latency[0], options=SEVERAL)
    remember(small_model, *SIZE, replace(FOUND, latency=(fast,)))
    assert isa_for(small_model) == "AVX2"
    choosing._limit_instructions(small_model)
    assert os.environ[INSTRUCTIONS] == ""
    del os.environ[INSTRUCTIONS]
    monkeypatch.setitem(sys.modules, "openvino", sys)
    choosing._limit_instructions(small_model)
    assert INSTRUCTIONS not in os.environ
    monkeypatch.delitem(sys.modules, "openvino")
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE")
    choosing._limit_instructions(small_model)
    assert INSTRUCTIONS not in os.environ
    monkeypatch.delenv("DNNL_MAX_CPU_ISA")
    choosing._limit_instructions(small_model)
    assert os.environ[INSTRUCTIONS] == "AVX2"


def test_options_say_what_they_are() -> None:
    kernels = (("*", "a"), ("3x3", FLOAT))
    every = Options(2, True, "AVX2", kernels, True, True, "parallel", "basic", "contiguous", False, False)
    assert Options.from_json(json.loads(json.dumps(every.to_json()))) == every
    assert every.describe() == (
        "2 threads for each frame, threads pinned to cores, instructions up to AVX2, a for every convolution,"
        " float for convolutions 3x3, bytes between the convolutions, maps in one piece, parallel execution,"
        " basic optimisation, contiguous layout, threads that sleep while they wait, no denormal numbers"
    )
    assert PLAIN.describe() == "the engine's own choice" and PLAIN.to_json() == {}


@pytest.mark.parametrize(
    ("name", "set_so"),
    [
        ("openvino", Options(threads=1, pinned=False, kernels=(("*", "jit_avx512"),))),
        ("onnxruntime", Options(1, execution="parallel", optimisation="basic", spinning=False)),
        ("torch", Options(threads=1, layout="contiguous")),
    ],
)
def test_engines_apply_it_behind_the_gate(
    name: str,
    set_so: Options,
    engine_cache: Path,
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(engine_cache))
    images = np.random.default_rng(0).integers(0, 255, (1, HEIGHT, WIDTH, 3), np.uint8)
    expected = build_engine(small_model, name, "fp32").infer(images, False)[0]
    remember(small_model, *SIZE, Tuned((Setting(name, "fp32", 1, set_so, 1.0, 2.0, 0.99),)))
    engine: Any = build_engine(small_model, name, "fp32")
    assert engine.options(engine_shape()) == set_so
    np.testing.assert_array_equal(engine.infer(images, False)[0], expected)
    assert not caplog.records
    verdicts = [
        entry for entry in cache.entries() if entry.key["identity"].get("options") == set_so.to_json()
    ]
    assert [entry.data["passed"] for entry in verdicts] == [True]


def test_onnx_runtime_is_told_each_of_its_options(small_model: ModelManifest) -> None:
    pytest.importorskip("onnxruntime")
    from onnxruntime import ExecutionMode, GraphOptimizationLevel

    engine: Any = build_engine(small_model, "onnxruntime", "fp32")
    plain = engine._session_options(PLAIN)
    for entry in ("session.intra_op.allow_spinning", "session.set_denormal_as_zero"):
        with pytest.raises(RuntimeError):
            plain.get_session_config_entry(entry)
    options = Options(3, execution="parallel", optimisation="extended", spinning=False, denormals=False)
    told = engine._session_options(options)
    assert told.intra_op_num_threads == 3
    assert told.execution_mode == ExecutionMode.ORT_PARALLEL
    assert told.graph_optimization_level == GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    for pool in ("intra_op", "inter_op"):
        assert told.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"
    assert told.get_session_config_entry("session.set_denormal_as_zero") == "1"


def test_torch_has_its_own_threads_again_after_a_runner_with_fewer(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine: Any = build_engine(small_model, "torch", "fp32")
    own = torch.get_num_threads()
    plain = engine.trial(engine_shape(), PLAIN)
    other = engine.trial(engine_shape(), Options(threads=own + 1))
    images = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    for run, threads in ((plain, own), (other, own + 1), (plain, own)):
        run(images)
        assert torch.get_num_threads() == threads


def engine_shape() -> Any:
    from rt_segmentation.inference.engines.interface import Shape

    return Shape(*SIZE, False)


def test_what_does_not_pass_is_left_out(
    engine_cache: Path,
    small_model: ModelManifest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(engine_cache))
    from rt_segmentation.inference.engines.onnxruntime_engine import ONNXRuntimeEngine

    real = ONNXRuntimeEngine.compile_graph

    def compile_graph(self: Any, graph: Any, set_so: Options = PLAIN) -> Any:
        run = real(self, graph, set_so)
        return run if set_so == PLAIN else lambda images: [255 - array for array in run(images)]

    monkeypatch.setattr(ONNXRuntimeEngine, "compile_graph", compile_graph)
    wrong = Options(execution="parallel")
    remember(small_model, *SIZE, Tuned((Setting("onnxruntime", "fp32", 1, wrong, 1.0, 2.0, 0.99),)))
    engine: Any = build_engine(small_model, "onnxruntime", "fp32")
    labels = engine.infer(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), False)[0]
    assert labels.max() < 11
    assert "is not set as `rt_seg tune`" in caplog.text and "parallel execution" in caplog.text
    with pytest.raises(EngineError, match="of the pixels") as refused:
        engine.judged(engine_shape(), wrong)
    assert reason(refused.value)


def test_another_version_of_the_package_goes_on_with_what_was_measured(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may try more, and may make what could not be made."""
    measured, refused = (
        Trial("openvino int8: 1 thread", 0.9, 1.0, True),
        Trial("openvino int8: AVX2", note="no"),
    )
    found = replace(FOUND, tried=(measured, refused), finished=("openvino int8",))
    remember(small_model, *SIZE, found)
    kept = recall(small_model, *SIZE)
    assert kept.continued() == kept
    monkeypatch.setattr(tuned, "__version__", "99.0.0")
    assert kept.continued() == replace(kept, tried=(measured,), finished=())
    assert kept.continued().latency == FOUND.latency
