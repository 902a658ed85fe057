"""The node's benchmark: its search, and one measurement over DDS."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from support.node_under_test import ENGINE

from rt_segmentation.benchmark.engines import Row as EngineRow
from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.node import SEGMENTATION, Bench, Run, highest_rate
from rt_segmentation.benchmark.report import Result
from rt_segmentation.benchmark.share import TOO_MUCH, Share, measure
from rt_segmentation.commands.benchmark_node import Ratios, Row, Setting, main, to_markdown
from rt_segmentation.models import ModelManifest
from rt_segmentation.provenance import Environment
from rt_segmentation.ros.parameters import Value
from rt_segmentation.ros.processes import Process
from rt_segmentation.settings import read_settings


@pytest.mark.parametrize("true_hz", [3.0, 11.0, 47.0])
def test_search_ends_just_below_what_the_node_holds(true_hz: float) -> None:
    played = []

    def play(rate_hz: float) -> Run:
        played.append(rate_hz)
        drop_ratio = 0.0 if rate_hz <= true_hz else 1 - true_hz / rate_hz
        return Run(rate_hz, 100, 100, drop_ratio, rate_hz, 1, 1, 1, 1, 1, 1)

    best = highest_rate(play, guess_hz=20.0)
    assert best.drop_ratio < 0.01
    assert true_hz / 1.4 < best.rate_hz <= true_hz * 1.01
    assert len(played) <= 8


def test_a_rate_over_dds(
    ros_environment: None, small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: no network to run")
    # The test's own domain and environment in place of the benchmark's.
    monkeypatch.setattr("rt_segmentation.benchmark.node.ros_environment", lambda: dict(os.environ))
    said: list[str] = []
    parameters: dict[str, Value] = {"model": str(small_model.path), **ENGINE}
    with Bench(tmp_path, said.append) as bench, bench.start(SEGMENTATION, parameters) as node:
        assert bench.warm_up(SEGMENTATION, node, (160, 120)) > 0
        run = bench.play(SEGMENTATION, node, (160, 120), 5.0, 2.0)
    assert (run.rate_hz, run.frames) == (5.0, 10)
    assert 2 <= run.masks <= run.frames
    assert run.drop_ratio == pytest.approx(1 - run.masks / run.frames)
    assert 0 < run.latency_min_ms <= run.latency_p50_ms <= run.latency_p95_ms <= run.latency_max_ms
    assert run.output_hz > 0 and run.cpu_percent >= 0 and run.memory_mb > 50
    assert run.camera_percent is not None and run.camera_percent >= 0
    assert run.receiver_percent is not None and run.receiver_percent >= 0
    assert said[-1].startswith(f"segmentation_node, 5.0 Hz: {run.masks} masks of 10 frames")


def test_a_node_that_gives_no_masks_for_a_while_is_warmed_up_on(
    ros_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latencies_ms = [40.0, math.nan, 40.0, 30.0]

    def play(*_: object) -> Run:
        ms = latencies_ms.pop(0)
        return Run(2.0, 4, 0 if math.isnan(ms) else 4, 0.0, 2.0, ms, ms, ms, ms, 0, 0)

    monkeypatch.setattr(Bench, "play", play)
    monkeypatch.setattr("rt_segmentation.benchmark.node.ros_environment", lambda: dict(os.environ))
    with Bench(tmp_path, lambda _: None) as bench:
        assert bench.warm_up(SEGMENTATION, cast(Process, None), (160, 120)) == 30.0


PROGRAM = """
import os, rclpy, sys
from pathlib import Path
from rt_segmentation.benchmark import node
# The test's own domain in place of the benchmark's.
node.ros_environment = lambda: dict(os.environ)
try:
    with node.Bench(Path.cwd(), print) as bench, bench.process("asleep", {}):
        while True:
            rclpy.spin_once(bench.node, timeout_sec=0.05)
except KeyboardInterrupt:
    sys.exit(130)
"""
ASLEEP = """
import os, time
from pathlib import Path
Path("there").write_text(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_all_its_processes(
    spawn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    for name, text in (("program", PROGRAM), ("asleep", ASLEEP)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    process, there = spawn("program"), tmp_path / "there"
    wait_until(lambda: (there.is_file() and bool(there.read_text())) or not process.is_running())
    process.send(number)
    assert process.finish() == status, process.output
    assert "Traceback" not in process.output
    assert not Path("/proc", there.read_text()).exists()


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90.0
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.long
def test_a_node_beside_its_engine(
    ros_environment: None, small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: no network to run")
    monkeypatch.setattr("rt_segmentation.benchmark.node.ros_environment", lambda: dict(os.environ))
    monkeypatch.setattr("rt_segmentation.benchmark.share.ROUNDS", 1)
    monkeypatch.setattr("rt_segmentation.benchmark.share.ROUND_S", 0.1)
    engine = {"engine": "torch", "precision": "fp32"}
    row = EngineRow("enet", str(small_model.path), 160, 120, engine["engine"], engine["precision"])
    with Bench(tmp_path, lambda _: None) as bench:
        with bench.start(SEGMENTATION, {"model": str(small_model.path), **engine}) as node:
            bench.warm_up(SEGMENTATION, node, (160, 120))
            share = measure(bench, node, row, 1, (160, 120), 0.5)
        missing = replace(row, engine="nothing")
        with pytest.raises(BenchmarkError, match=r"the engine by itself: .*nothing"):
            measure(bench, node, missing, 1, (160, 120), 0.5)
    assert share.run.masks > 0 and share.run.rate_hz >= TOO_MUCH * share.engine_hz * 0.99
    assert share.engine_ratio == pytest.approx(share.run.output_hz / share.engine_hz, abs=1e-3)
    assert share.engine_beside_ratio == pytest.approx(share.run.output_hz / share.engine_beside_hz, abs=1e-3)
    assert share.engine_parallel_hz is None and share.engine_parallel_ratio is None


def test_a_node_that_decides_how_many_frames_it_takes_is_judged_by_the_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    class Alone:
        def __init__(self, row: EngineRow, parallel: int) -> None:
            self.row, self._ms = row, 50.0 / parallel
            made.append(parallel)

        def run(self, frames: int) -> list[float]:
            return [self._ms] * frames

        def close(self) -> None:
            pass

    class Beside:
        def play(self, *given: Any) -> Run:
            return Run(given[3], 10, 10, 0.0, 36.0, 1, 2, 3, 4, 5, 6)

        def sending(self, *_: Any) -> Any:
            return nullcontext()

    monkeypatch.setattr("rt_segmentation.benchmark.share.Candidate", Alone)
    row = EngineRow("enet", "enet", 160, 120, "openvino", "fp32")
    share = measure(cast(Bench, Beside()), cast(Process, None), row, 0, (160, 120), 0.5)
    assert made == [1, 2]
    assert (share.engine_hz, share.engine_parallel_hz, share.engine_beside_hz) == (20.0, 40.0, 40.0)
    assert (share.engine_ratio, share.engine_parallel_ratio, share.engine_beside_ratio) == (1.8, 0.9, 0.9)
    assert share.run.rate_hz == pytest.approx(TOO_MUCH * 40.0)
    given = Setting("rt_segmentation", "enet", 0, (64, 48), (64, 48))
    ratios = Ratios(**{f.name: getattr(share, f.name) for f in fields(Ratios)})
    page = to_markdown(Result([Row(given, "too much", share.run, ratios)]))
    assert "as many as it chose concurrently: the node reaches 1.80" in page
    assert "0.90 of 40.0 Hz at its best of 1 and 2" in page


class Played:
    """In place of a bench: one model's node gives no masks, and another one's ends at 30 Hz."""

    def __init__(self, logs: Path, _: Any) -> None:
        self._logs, self._model = logs, ""

    def __enter__(self) -> Played:
        self._logs.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, _: Any, parameters: dict[str, Any]) -> Any:
        self._model = parameters["model"]
        return nullcontext()

    def warm_up(self, *_: Any) -> float:
        if self._model == "lednet":
            rows = json.loads((self._logs.parent / "node.json").read_text())["rows"]
            # What was measured before lies on the disk by now, in both files.
            assert [row["run"] for row in rows] == ["highest", "too much", "10 Hz", "failed"]
            assert (
                "| failed | segmentation_node ended: a / b |" in (self._logs.parent / "node.md").read_text()
            )
            raise RuntimeError("segmentation_node gave no masks;\nit said: nothing")
        return 25.0

    def play(self, _: Any, __: Any, ___: Any, rate_hz: float, ____: float) -> Run:
        if self._model == "enet" and rate_hz == 30.0:
            raise RuntimeError("segmentation_node ended: a | b")
        drop_ratio = 0.0 if rate_hz <= 45.0 else 0.5
        return Run(rate_hz, 10, 10, drop_ratio, rate_hz, 1, 2, 3, 4, 5, 6)


def benchmark(out: Path, *models: str) -> None:
    main(
        Namespace(
            models=models,
            sizes=["640x360"],
            engine="auto",
            precision="auto",
            parallel=[1],
            cameras=[],
            minutes=1,
            out=out,
        )
    )


def test_each_row_is_written_and_a_setting_that_fails_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rt_segmentation.benchmark.node.Bench", Played)
    run = Run(60.0, 100, 80, 0.2, 45.0, 1, 2, 3, 4, 5, 6)
    share = Share(run, 50.0, 0.9, None, None, 47.0, 0.957)
    monkeypatch.setattr("rt_segmentation.commands.benchmark_node.share_of_engine", lambda *_: share)
    benchmark(tmp_path, "enet", "lednet", "linknet")

    rows = json.loads((tmp_path / "node.json").read_text())["rows"]
    assert [(row["model"], row["run"]) for row in rows] == [
        *(("enet", run) for run in ("highest", "too much", "10 Hz", "failed")),
        ("lednet", "failed"),
        *(("linknet", run) for run in ("highest", "too much", "10 Hz", "30 Hz", "60 Hz")),
    ]
    assert (rows[1]["engine_ratio"], rows[1]["engine_beside_ratio"]) == (0.9, 0.957)
    assert "engine_parallel_hz" not in rows[1] and "engine_hz" not in rows[0]
    assert rows[4]["problem"] == "segmentation_node gave no masks; it said: nothing"
    page = (tmp_path / "node.md").read_text()
    assert page in capsys.readouterr().out
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 2 + len(rows)

    with pytest.raises(BenchmarkError, match="no setting could be measured; segmentation_node gave no masks"):
        monkeypatch.setattr(Played, "warm_up", lambda *_: no_masks())
        benchmark(tmp_path / "again", "lednet")


def test_a_row_that_cannot_be_written_is_measured_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rt_segmentation.benchmark.node.Bench", Played)
    share = Share(Run(60.0, 100, 80, 0.2, 45.0, 1, 2, 3, 4, 5, 6), 50.0, 0.9, None, None, 47.0, 0.957)
    monkeypatch.setattr("rt_segmentation.commands.benchmark_node.share_of_engine", lambda *_: share)
    (tmp_path / "node.json").mkdir()
    with pytest.raises(OSError, match=r"Is a directory: '.*node\.json'"):
        benchmark(tmp_path, "linknet")
    said = capsys.readouterr()
    assert said.err.count("Is a directory") == 1
    page = (tmp_path / "node.md").read_text()
    assert page in said.out and "| 60 Hz |" in page


def no_masks() -> float:
    raise RuntimeError("segmentation_node gave no masks")


def test_runs_as_a_table_with_their_ratios() -> None:
    run = Run(30.0, 100, 99, 0.01, 29.7, 20.0, 25.0, 30.0, 40.0, 150.0, 300.0, 230.0, 7.0)
    setting = Setting("rt_segmentation", "enet", 2, (640, 360), (640, 360))
    ours = Row(setting, "highest", run, Ratios(33.0, 0.9))
    silent = Row(replace(setting, node="plain"), "highest", replace(run, latency_p50_ms=math.nan))
    result = Result([ours, silent], "rt_seg")
    # The keys that a row has had in files since 0.1.0.
    first, second = result.to_plain()["rows"]
    assert list(first) == [
        *("node", "model", "parallel_frames", "camera", "network", "run"),
        *(field.name for field in fields(Run)),
        *("engine_hz", "engine_ratio"),
    ]
    assert second["latency_p50_ms"] is None and "engine_hz" not in second
    text = to_markdown(result)
    lines = text.splitlines()
    cells = "highest | 30.0 | 29.7 | 1.0% | 20.0 | 25.0 | 30.0 | 40.0 | 150 | 7 |  | 300 | 230"
    assert f"| rt_segmentation | enet | 2 | 640x360 | 640x360 | {cells} |" in lines
    assert "| 20.0 |  | 30.0 |" in text
    assert lines[-1].startswith("- enet, 640x360, 2 concurrently: ")
    assert lines[-1].endswith("0.90 of the rate of its engine alone at 640x360, 33.0 Hz.")
    beside = Ratios(33.0, 0.9, 40.0, 0.74, 31.2, 0.95)
    last = to_markdown(Result([replace(ours, ratios=beside)], "rt_seg")).splitlines()[-1]
    assert "0.74 of 40.0 Hz at 2. Beside the same camera" in last and "31.2 Hz: 0.95 of that." in last


def test_the_plain_node_is_put_beside_ours() -> None:
    from tools.benchmarks.beside_plain import compare

    ours = Run(30.0, 100, 99, 0.01, 30.0, 10, 20.0, 30, 40, 150, 300)
    plain = Run(30.0, 100, 50, 0.5, 15.0, 50, 80.0, 90, 99, 100, 900)
    setting = Setting("rt_segmentation", "enet", 2, (64, 48), (64, 48))
    first, second = (row.to_plain() for row in compare(setting, "30 Hz", ours, plain))
    assert (first["plain_rate_ratio"], first["plain_latency_ratio"]) == (2.0, 0.25)
    assert (second["node"], second["parallel_frames"], second["masks"]) == ("plain", 1, 50)
    silent = Run(30.0, 100, 0, 1.0, 0.0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(BenchmarkError, match="too few masks"):
        compare(setting, "30 Hz", ours, silent)


@pytest.mark.parametrize("name", ["node", "node_linknet"])
def test_the_stored_pages_are_what_is_written_of_their_numbers(name: str) -> None:
    folder = Path(__file__).parents[2] / "docs" / "benchmarks" / "xeon_vnni_2_cores"
    content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))

    def of(kind: Any, plain: dict[str, Any]) -> Any:
        return kind(**{f.name: plain[f.name] for f in fields(kind) if f.name in plain})

    rows = [
        Row(
            replace(of(Setting, plain), camera=tuple(plain["camera"]), network=tuple(plain["network"])),
            plain["run"],
            of(Run, plain),
            of(Ratios, plain) if "engine_hz" in plain else None,
        )
        for plain in content["rows"]
    ]
    where = read_settings(Environment, {key: content[key] for key in ("machine", "versions", "commit")})
    page = to_markdown(Result(rows, content["command"], where))
    assert page == (folder / f"{name}.md").read_text(encoding="utf-8")
