"""The benchmark measures what it says; how fast anything is, is no test's business."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

from rt_segmentation.benchmark import cores
from rt_segmentation.benchmark import engines as engines_module
from rt_segmentation.benchmark.engines import Group, Row, time_group, time_throughputs
from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.report import Result, to_markdown, write_result
from rt_segmentation.benchmark.worker import time_frames
from rt_segmentation.cli import build_parser
from rt_segmentation.commands import benchmark as command
from rt_segmentation.commands.options import OptionError
from rt_segmentation.inference.engines import EngineError, build_engine
from rt_segmentation.models import ModelManifest, ONNXInterface, find_model
from tools.benchmarks import engines as tool
from tools.benchmarks.chart import draw_chart
from tools.benchmarks.engines import explain
from tools.benchmarks.networks import (
    NetworkCost,
    benchmarked_model,
    network_cost,
    sizes_for,
)
from tools.benchmarks.peak import measure_peaks, put_beside_peaks

# Whose process does not import PyTorch, which takes seconds.
QUICK = ("onnxruntime", "fp32")

COST = NetworkCost("enet", "enet", 640, 360, 2.0, 360_000, 0.7, 3.8, 0.55)


@pytest.fixture(scope="module", autouse=True)
def few_frames() -> Iterator[None]:
    """A few frames each are enough to see what is made of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rt_segmentation.benchmark.engines.ROUND_S", 0.05)
        patched.setattr("tools.benchmarks.engines.PEAK_S", 0.0)
        yield


@pytest.fixture(scope="module")
def small_model(small_model: ModelManifest) -> ModelManifest:
    """Its engine is in the cache, so that no candidate needs PyTorch."""
    engine = build_engine(small_model, *QUICK)
    for batch in (1, 2):
        engine.prepare(batch, 48, 64)
    return small_model


def row(engine: str, precision: str, median_ms: float, loss: float | None = 0.0) -> Row:
    timed = Row("enet", "enet", 640, 360, engine, precision, median_ms, 2 * median_ms, 1e3 / median_ms, 90.0)
    timed.miou_loss = loss
    return timed


def test_what_cannot_be_built_is_said(tmp_path: Path) -> None:
    group = Group("enet", str(tmp_path / "none.yaml"), 64, 48, (("torch", "fp32"),))
    (failed,) = time_group(group, 0.1)
    assert "none.yaml does not exist" in failed.problem and failed.median_ms is None
    assert "none.yaml does not exist" in to_markdown(Result([failed]))


def test_a_candidate_that_dies_leaves_the_others_their_numbers(small_model: ModelManifest) -> None:
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")

    def kill(message: str) -> None:
        if message.endswith("round 1"):
            os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)

    candidates = (QUICK, ("openvino", "fp32"))
    group = Group("enet", str(small_model.path), 64, 48, candidates)
    kept, killed = time_group(group, 0.1, kill)
    assert kept.median_ms is not None and kept.peak_memory_mb is not None and not kept.problem
    assert killed.median_ms is None and killed.problem == "the candidate's process ended with status -9"


def test_a_candidate_that_is_not_ready_in_time_is_left_out(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group("enet", str(small_model.path), 64, 48, (QUICK,))
    (late,) = time_group(group, 0.1, limit_s=0.05)
    assert late.median_ms is None and late.problem == "it was not ready when the time was over"
    # Rounds end before the limit does.
    monkeypatch.setattr(engines_module, "LAST_S", 1e6)
    (timed,) = time_group(group, 1e6, limit_s=600)
    assert timed.median_ms is not None and not timed.problem


def test_frames_side_by_side_are_timed_by_their_rate(small_model: ModelManifest) -> None:
    group = Group("enet", str(small_model.path), 64, 48, (QUICK,), parallel=2)
    (timed,) = time_group(group, 0.1)
    assert timed.fps is not None and timed.frames > 2 and not timed.problem


@pytest.mark.parametrize("parallel", [2, 4])
@pytest.mark.parametrize("frames", [1, 5])
def test_lanes_that_do_not_disturb_each_other_give_so_many_times_the_rate(parallel: int, frames: int) -> None:
    # A frame ends when as many as there are lanes are at work: no lane is idle while one is timed.
    together = threading.Barrier(parallel)

    def segment() -> None:
        together.wait(20.0)

    durations_ms = time_frames(segment, frames, parallel)
    assert len(durations_ms) >= frames and len(durations_ms) % parallel == 0


def test_frames_at_once_are_timed_in_turns(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rt_segmentation.benchmark.engines.ROUND_S", 0.02)
    row = Row("enet", str(small_model.path), 64, 48, *QUICK)
    said: list[str] = []
    alone, batch = time_throughputs(row, [(1, 1), (1, 2)], 0.1, said.append)
    assert (alone.batch, batch.batch) == (1, 2) and alone.fps is not None and batch.fps is not None
    assert batch.median_ms is not None and batch.fps == pytest.approx(2e3 / batch.median_ms, rel=0.01)
    assert said[-1].endswith("round 3")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no other")
def test_the_way_from_core_to_core_is_measured_beside_each_row(small_model: ModelManifest) -> None:
    group = Group("enet", str(small_model.path), 64, 48, (QUICK,))
    (timed,) = time_group(group, 0.1)
    assert timed.core_round_trip_ns is not None and timed.core_round_trip_ns > 0
    assert f"| {timed.core_round_trip_ns:.0f} |" in to_markdown(Result([timed]))


def test_one_core_has_no_way_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert cores.core_round_trip_ns() is None


def test_rows_stand_beside_the_engines_peak() -> None:
    rows = [row("openvino", "int8", 20.0), row("onnxruntime", "fp32", 40.0)]
    put_beside_peaks(rows, lambda _: 2.0, {("openvino", "int8"): 800.0})
    # 2 GMACs are 4e9 operations: in 20 ms 200 GOPS, a quarter of 800.
    assert (rows[0].gops, rows[0].peak_share) == (200.0, 0.25)
    assert (rows[1].gops, rows[1].peak_share) == (100.0, None)


@pytest.mark.long
def test_peaks_are_measured_where_they_can_be() -> None:
    peaks = measure_peaks([("torch", "fp32"), ("onnxruntime", "int8")], 0.0)
    assert list(peaks) == [("torch", "fp32")] and peaks["torch", "fp32"] > 0


def test_the_page_marks_what_loses_too_much() -> None:
    rows = [row("openvino", "fp32", 30.0), row("openvino", "int8", 20.0, 0.7)]
    page = to_markdown(Result(rows), explain(rows, [COST], [], False))
    lines = {line.split("|")[2].strip(): line for line in page.splitlines() if line.startswith("| openvino")}
    assert "(!)" in lines["int8"] and "(!)" not in lines["fp32"]
    assert "counts for no claim" in page
    assert "| enet | enet | 2.00 | 0.36 M | 0.7 | 3.8 | 0.550 |" in page


def test_a_file_that_cannot_be_written_loses_no_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row("linknet", "town", 640, 360, "torch", "fp32", median_ms=12.3)]
    for number, name in enumerate(("engines.json", "engines.md")):
        (tmp_path / str(number) / name).mkdir(parents=True)
        with pytest.raises(OSError, match=name):
            write_result(tmp_path / str(number), "engines", rows, to_markdown)
        assert "12.3" in capsys.readouterr().out
        assert len([path for path in (tmp_path / str(number)).iterdir() if path.is_file()]) == 1


def test_the_chart_shows_one_size() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    result = Result([row("openvino", "fp32", 30.0), row("openvino", "int8", 20.0, 0.7)])
    chart = draw_chart(result, [COST])
    assert chart is not None and imread(io.BytesIO(chart)).std() > 0.01
    assert draw_chart(result, [replace(COST, mean_iou=None)]) is None


def test_costs_are_those_of_the_papers(tmp_path: Path) -> None:
    segnet = network_cost(benchmarked_model("segnet", tmp_path), "segnet", 640, 360)
    # LinkNet's Table III: 29.5 M and 56.2 MB.
    assert segnet.parameters / 1e6 == pytest.approx(29.45, abs=0.1)
    assert segnet.fp16_mib == pytest.approx(56.2, abs=0.1)
    assert segnet.paper_gflops == 286.0 and segnet.mean_iou is None
    enet = network_cost(find_model("enet"), "enet", 640, 360)
    assert enet.fp16_mib == pytest.approx(0.7, abs=0.05) and enet.mean_iou is not None
    # Of a graph its manifest says it.
    graph = replace(
        find_model("enet"),
        network="",
        onnx=ONNXInterface("image", "out", "logits"),
        gmacs=2.0,
        parameters=5,
        width=64,
        height=48,
    )
    cost = network_cost(graph, "graph", 128, 48)
    assert (cost.network, cost.gmacs, cost.parameters) == ("ONNX", 4.0, 5)


def test_a_subject_has_its_own_options_alone(capsys: pytest.CaptureFixture[str]) -> None:
    given = build_parser().parse_args(["benchmark", "node", "--parallel", "1", "2"])
    assert (given.subject, given.models, given.sizes) == ("node", ["enet", "linknet", "lednet"], ["640x360"])
    for wrong in (["startup", "--compare", "eager"], ["node", "--batches", "2"], ["layers"], []):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["benchmark", *wrong])


def test_the_papers_benchmark_has_segnet() -> None:
    parser = argparse.ArgumentParser()
    tool.add_arguments(parser)
    given = parser.parse_args([])
    assert given.models == ["enet", "linknet", "lednet", "segnet"] and given.sizes == []


def test_sizes_are_those_of_the_papers() -> None:
    assert sizes_for("enet", False, False) == ((640, 360),)
    assert sizes_for("enet", True, False) == ((480, 320), (640, 360), (1280, 720), (1920, 1080))
    assert (1024, 512) in sizes_for("lednet", True, False)
    assert sizes_for("segnet", True, False) == ((480, 320), (640, 360))
    assert sizes_for("segnet", True, True) == sizes_for("enet", True, True)


@pytest.mark.parametrize(
    ("main", "batches"),
    [
        pytest.param(command.main, [1, 2], id="command"),
        pytest.param(tool.main, [2], id="tool", marks=pytest.mark.long),
    ],
)
def test_candidates_take_turns_beside_eager(
    main: Callable[[argparse.Namespace], None],
    batches: list[int],
    small_model: ModelManifest,
    tmp_path: Path,
) -> None:
    arguments = argparse.Namespace(
        subject="engines",
        models=[str(small_model.path)],
        sizes=["64x48"],
        engines=[QUICK[0]],
        precisions=["fp32"],
        batches=batches,
        compare="eager",
        data_root=None,
        minutes=0.0,
        full=False,
        out=tmp_path / "out",
    )
    main(arguments)
    content = json.loads((tmp_path / "out" / "engines.json").read_text())
    taken = [(timed["engine"], timed["batch"]) for timed in content["rows"]]
    assert taken == [(engine, batch) for batch in batches for engine in ("eager", QUICK[0])]
    eager, ours = content["rows"][-2:]
    assert eager["eager_ratio"] == 1.0
    assert ours["eager_ratio"] == pytest.approx(eager["median_ms"] / ours["median_ms"], rel=0.01)
    for timed in content["rows"]:
        assert timed["problem"] == "" and timed["frames"] >= 3 and timed["peak_memory_mb"] > 50
        assert 0 < timed["median_ms"] <= timed["p95_ms"]
        assert timed["fps"] == pytest.approx(1000 * timed["batch"] / timed["median_ms"], rel=0.01)
        assert (timed["network"], timed["width"], timed["height"]) == ("enet", 64, 48)
        assert timed["model"] == str(small_model.path)
        assert (timed["peak_share"] is not None) == (main is tool.main)
        assert timed["miou_loss"] is None
    assert {"commit", "machine", "versions"} <= set(content)
    page = (tmp_path / "out" / "engines.md").read_text()
    assert "| onnxruntime | fp32 |" in page and "64x48, 2 frames per batch" in page
    arguments.engines = ["abacus"]
    with pytest.raises(EngineError, match="unknown engine 'abacus'; there are"):
        main(arguments)
    arguments.batches = [0]
    with pytest.raises(BenchmarkError, match="a batch of 0 frames cannot be timed"):
        main(arguments)
    arguments.sizes = ["640"]
    with pytest.raises(OptionError, match="size '640' is not WIDTHxHEIGHT"):
        main(arguments)
