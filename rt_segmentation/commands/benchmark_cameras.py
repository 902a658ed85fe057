"""`rt_seg benchmark node --cameras`: several cameras with one node, beside a node for each."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.commands.options import parse_size, say

if TYPE_CHECKING:
    from rt_segmentation.benchmark.cameras import CamerasRun, Layout
    from rt_segmentation.benchmark.report import Result
    from rt_segmentation.ros.parameters import Value

ROUNDS = 3
MOST_CAMERAS = 16
"""Beside one node for all of them as many nodes are started."""
SHORTEST_PLAY_S = 3.0
# Each time a player is started, finds its subscribers, and ends.
OVERHEAD_S = 4.0


@dataclass(frozen=True)
class Setting:
    """What all rows have in common.

    Attributes:
        model: name or manifest.
        camera, network: (width, height) of the frames, and of what the network gets [px].
        parallel_frames: of the nodes.
    """

    model: str
    camera: tuple[int, int]
    network: tuple[int, int]
    parallel_frames: int


class Round(NamedTuple):
    """A layout's run, and its engine's rates in that round [Hz]: by itself, and beside the cameras."""

    run: CamerasRun
    engine_hz: float
    engine_beside_hz: float


@dataclass(frozen=True)
class Row:
    """A layout's run of median rate, beside its engine's rates.

    Attributes:
        run: of median rate.
        engine_hz, engine_ratio: the engine by itself [Hz], and the masks of all cameras by it; medians of the
            rounds, each ratio of one round's rates.
        engine_beside_hz, engine_beside_ratio: the same, while as many cameras send to listeners that do
            nothing with the images.
    """

    run: CamerasRun
    engine_hz: float
    engine_ratio: float
    engine_beside_hz: float
    engine_beside_ratio: float

    @property
    def is_starved(self) -> bool:
        """Whether the engine could have taken all frames: the run is no measure of the node then."""
        return self.run.cameras * self.run.rate_hz < self.engine_hz

    @property
    def memory_per_camera_mb(self) -> float:
        """Resident, of all processes."""
        return round(self.run.memory_mb / self.run.cameras, 1)

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        from rt_segmentation.benchmark.report import without_nan

        return {
            **without_nan(asdict(self.run)),
            "engine_hz": round(self.engine_hz, 2),
            "engine_ratio": self.engine_ratio,
            "engine_beside_hz": round(self.engine_beside_hz, 2),
            "engine_beside_ratio": self.engine_beside_ratio,
            "memory_per_camera_mb": self.memory_per_camera_mb,
        }


def main(
    arguments: argparse.Namespace,
    layouts: Callable[[int, dict[str, Value]], Sequence[Layout]] | None = None,
) -> None:
    """Measure numbers of cameras; writes cameras.json and cameras.md.

    Args:
        arguments: of the command; of the models and sizes the first.
        layouts: for a number of cameras and the node's parameters, what is measured in turns; by default one
            node, and a node for each camera.

    Raises:
        BenchmarkError: a node ended or gave no masks, or the engine cannot be timed.
        ModelError, OptionError: the model or the size is wrong.
        OSError: a file could not be written, when the table was printed.
    """
    from rt_segmentation.benchmark import cameras
    from rt_segmentation.benchmark.engines import Row as EngineRow
    from rt_segmentation.benchmark.node import QUIET_S, Bench
    from rt_segmentation.benchmark.report import Result, SoFar
    from rt_segmentation.benchmark.share import TOO_MUCH, best_rate, by_itself
    from rt_segmentation.imaging.placement import width_for
    from rt_segmentation.models import find_model

    for number in arguments.cameras:
        if not 1 <= number <= MOST_CAMERAS:
            raise BenchmarkError(
                f"--cameras is {number}, it must be from 1 to {MOST_CAMERAS}; each has a node"
            )
    model, size = arguments.models[0], parse_size(arguments.sizes[0])
    manifest = find_model(model)
    network = manifest.fixed_size or (width_for(size, manifest.height), manifest.height)
    setting = Setting(model, size, network, arguments.parallel[0])
    parameters: dict[str, Value] = {
        "model": model,
        "engine": arguments.engine,
        "precision": arguments.precision,
        "parallel_frames": setting.parallel_frames,
    }
    make = layouts or (
        lambda number, given: [cameras.one_node(number, given), cameras.separate_nodes(number, given)]
    )
    plays = sum(ROUNDS * len(make(number, parameters)) for number in arguments.cameras)
    seconds = max(SHORTEST_PLAY_S, arguments.minutes * 60 / plays - OVERHEAD_S)
    engine = EngineRow(manifest.architecture, model, *network, arguments.engine, arguments.precision)
    # Its best counts where the node decides how many frames it has concurrently.
    counts = [setting.parallel_frames] if setting.parallel_frames else [1, 2]
    rows: list[Row] = []
    result, so_far = Result(rows), SoFar(arguments.out, "cameras", say)
    with Bench(arguments.out / "logs", say) as bench:
        for number in arguments.cameras:
            with ExitStack() as stack:
                alone = stack.enter_context(by_itself(engine, counts))
                best_hz = best_rate(alone)
                rate_hz = max(1.0, round(TOO_MUCH * best_hz / number, 1))
                subjects = [
                    (layout, stack.enter_context(cameras.started(bench, layout)))
                    for layout in make(number, parameters)
                ]
                # A node that is slow on this machine has the time for its last masks.
                quiet_s = [max(QUIET_S, 2 * cameras.warm_up(bench, *subject, size)) for subject in subjects]
                rounds = []
                for _ in range(ROUNDS):
                    alone_hz = best_rate(alone)
                    runs = [
                        cameras.play(bench, *subject, size, rate_hz, seconds, quiet)
                        for subject, quiet in zip(subjects, quiet_s)
                    ]
                    with bench.sending(size, rate_hz, seconds, number):
                        # All of it while the cameras send.
                        beside_hz = best_rate(alone, seconds / 2 / len(alone))
                    rounds.append([Round(run, alone_hz, beside_hz) for run in runs])
            rows += [as_row(each) for each in zip(*rounds)]
            engine_hz, beside_hz = rows[-1].engine_hz, rows[-1].engine_beside_hz
            say(
                f"the engine by itself: {engine_hz:.1f} frames per second, beside the cameras {beside_hz:.1f}"
            )
            so_far.write(result.to_plain(**asdict(setting)), to_markdown(result, setting))
    print(to_markdown(result, setting))
    so_far.check()


def as_row(rounds: Sequence[Round]) -> Row:
    """The row of one layout."""
    runs = sorted((each.run for each in rounds), key=lambda run: run.masks_hz)
    return Row(
        runs[len(runs) // 2],
        median(each.engine_hz for each in rounds),
        round(median(each.run.masks_hz / each.engine_hz for each in rounds), 3),
        median(each.engine_beside_hz for each in rounds),
        round(median(each.run.masks_hz / each.engine_beside_hz for each in rounds), 3),
    )


def to_markdown(result: Result[Row], setting: Setting) -> str:
    """The runs as a table, and the memory of one node beside that of one camera."""
    from rt_segmentation.benchmark.report import page_head

    camera, network = ("x".join(map(str, size)) for size in (setting.camera, setting.network))
    heads = ("cameras", "nodes", "sent, each [Hz]", "masks, all [Hz]", "fewest [Hz]", "of the engine")
    more = (
        "beside the cameras",
        "p50 [ms]",
        "p95 [ms]",
        "slowest p95 [ms]",
        "memory [MB]",
        "per camera [MB]",
    )
    lines = [
        *page_head("Several cameras over DDS", result),
        f"Model {setting.model}, cameras of {camera}, network {network}, `parallel_frames`"
        f" {setting.parallel_frames}. More frames are sent than the engine can take. Layouts and the engine"
        f" by itself take turns; a row is the round of median rate of {ROUNDS}. `of the engine` is the masks"
        " of all cameras by the engine's rate by itself, `beside the cameras` by its rate while as many"
        " cameras send to listeners that do nothing with the images (medians of the rounds' ratios);"
        " `fewest` and `slowest` are of one camera; memory is resident, of all processes of the row.",
        "",
        f"| {' | '.join(heads + more)} |",
        "|" + "---|" * len(heads + more),
    ]
    for row in result.rows:
        run = row.run
        cells = [str(run.cameras), run.layout]
        cells += [f"{rate:.1f}" for rate in (run.rate_hz, run.masks_hz, run.least_hz)]
        cells += [f"{ratio:.2f}" for ratio in (row.engine_ratio, row.engine_beside_ratio)]
        latencies = (run.latency_p50_ms, run.latency_p95_ms, run.worst_p95_ms)
        cells += ["" if math.isnan(latency) else f"{latency:.0f}" for latency in latencies]
        cells += [f"{run.memory_mb:.0f}", f"{row.memory_per_camera_mb:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    starved = sorted({row.run.cameras for row in result.rows if row.is_starved})
    if starved:
        cameras = f"{' and '.join(map(str, starved))} camera{'' if starved == [1] else 's'}"
        lines += [
            "",
            f"With {cameras} fewer frames were sent than the engine took later by itself: the machine was"
            " busy when their number was chosen. Measure again when it is idle.",
        ]
    together = {row.run.cameras: row.run.memory_mb for row in result.rows if row.run.layout == "one node"}
    if 1 in together:
        lines += [""] + [
            f"- One node with {number} cameras takes {memory / together[1]:.2f} of the memory with one."
            for number, memory in together.items()
            if number > 1
        ]
    return "\n".join(lines) + "\n"
