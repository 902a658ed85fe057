"""The benchmark of several cameras: its layouts, what it makes of masks, and its page."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rt_segmentation.benchmark.cameras import CamerasRun, one_node, separate_nodes, summary
from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.report import Result
from rt_segmentation.cli import build_parser
from rt_segmentation.commands.benchmark_cameras import Round, Row, Setting, as_row, main, to_markdown


def test_layouts_share_the_cameras_among_nodes() -> None:
    given = {"model": "enet"}
    together, apart = one_node(2, given), separate_nodes(2, given)
    assert [part.parameters for part in together.parts] == [{**given, "cameras": ["camera_0", "camera_1"]}]
    assert together.images == ("/together/camera_0/image", "/together/camera_1/image")
    assert together.labels[1] == "/together/segmentation_node/camera_1/label"
    assert [part.namespace for part in apart.parts] == ["/separate_0", "/separate_1"]
    assert apart.labels[0] == "/separate_0/segmentation_node/label"
    assert not set(together.images) & set(apart.images)


def test_what_came_is_counted_for_all_cameras_and_for_the_worst() -> None:
    fast = [(number / 10, 20.0) for number in range(21)]
    slow = [(0.0, 100.0), (2.0, 300.0)]
    run = summary("one node", 30.0, [fast, slow], 300.0)
    assert (run.cameras, run.masks_hz, run.least_hz, run.fewest) == (2, 11.0, 0.96, 2)
    assert run.latency_p50_ms == 20.0 and run.worst_p95_ms == 290.0
    silent = summary("one node", 30.0, [fast, []], 300.0)
    assert silent.least_hz == 0.0 and silent.masks_hz == 10.0
    # One mask has no rate, and came all the same.
    first = summary("plain nodes", 2.0, [[(0.0, 3000.0)]], 300.0)
    assert (first.masks_hz, first.fewest) == (0.0, 1)
    nothing = summary("one node", 30.0, [[], []], 300.0)
    assert nothing.masks_hz == 0.0 and math.isnan(nothing.latency_p50_ms)


def test_the_page_has_a_row_for_each_layout_and_the_memory() -> None:
    camera = [(number / 10, 20.0) for number in range(21)]
    rows = [
        Row(summary("one node", 30.0, [camera] * number, memory), 20.0, 0.5, 12.5, 0.8)
        for number, memory in ((1, 200.0), (4, 250.0))
    ]
    rows.append(Row(summary("separate nodes", 30.0, [[]], 100.0), 20.0, 0.0, 12.5, 0.0))
    setting = Setting("enet", (640, 360), (640, 360), 0)
    plain = Result(rows).to_plain(**asdict(setting))
    assert (plain["model"], plain["camera"], plain["parallel_frames"]) == ("enet", [640, 360], 0)
    first, second, silent = plain["rows"]
    assert first["engine_ratio"] == 0.5 and second["memory_per_camera_mb"] == 62.5
    assert (first["layout"], first["cameras"], first["engine_hz"]) == ("one node", 1, 20.0)
    assert silent["latency_p50_ms"] is None
    text = to_markdown(Result(rows), setting)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 5
    assert "| 1 | one node | 30.0 | 10.0 | 10.0 | 0.50 | 0.80 | 20 | 20 | 20 | 200 | 200 |" in text
    assert "One node with 4 cameras takes 1.25 of the memory with one." in text
    assert "fewer frames were sent" not in text
    busy = [replace(row, engine_hz=35.0) for row in rows]
    assert "With 1 camera fewer frames were sent than the engine took" in to_markdown(Result(busy), setting)


def test_each_layout_is_judged_by_the_engine_of_its_own_round() -> None:
    def played(masks_hz: float) -> CamerasRun:
        return replace(summary("one node", 30.0, [[]], 100.0), masks_hz=masks_hz)

    # The machine was twice as slow in the second round, for the node and the engine alike.
    rounds = [Round(played(18.0), 20.0, 18.0), Round(played(9.0), 10.0, 9.0), Round(played(19.0), 20.0, 19.0)]
    row = as_row(rounds)
    assert (row.run.masks_hz, row.engine_hz, row.engine_beside_hz) == (18.0, 20.0, 18.0)
    assert (row.engine_ratio, row.engine_beside_ratio) == (0.9, 1.0)


@pytest.mark.parametrize("number", ["0", "-1", "100000"])
def test_too_few_or_too_many_cameras_are_one_sentence(number: str) -> None:
    arguments = build_parser().parse_args(["benchmark", "node", "--cameras", "1", number])
    with pytest.raises(BenchmarkError, match=f"--cameras is {number}, it must be from 1 to 16"):
        main(arguments)
