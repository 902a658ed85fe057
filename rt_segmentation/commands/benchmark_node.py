"""`rt_seg benchmark node`: the whole pipeline over DDS, beside its engine alone."""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.commands import benchmark_cameras
from rt_segmentation.commands.options import (
    add_engine,
    add_models,
    add_out,
    add_sizes,
    minutes,
    parse_size,
    say,
)
from rt_segmentation.commands.outputs import check_outputs

if TYPE_CHECKING:
    from rt_segmentation.benchmark.node import Bench, Run
    from rt_segmentation.benchmark.report import Result
    from rt_segmentation.benchmark.share import Share
    from rt_segmentation.models import ModelManifest
    from rt_segmentation.ros.parameters import Value
    from rt_segmentation.ros.processes import Process

FIXED_RATES_HZ = (10.0, 30.0, 60.0)
# Of a search, the fixed rates, and the rounds beside the engine, in all about.
PLAYS = 16
# Each time a player is started, finds its subscriber, and ends.
OVERHEAD_S = 4.0
SHORTEST_PLAY_S = 3.0


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        node: 'rt_segmentation', or another one beside it.
        model: name or manifest.
        parallel_frames: of the node.
        camera: (width, height) of its frames [px].
        network: (width, height) of what the network gets [px].
    """

    node: str
    model: str
    parallel_frames: int
    camera: tuple[int, int]
    network: tuple[int, int]


@dataclass(frozen=True)
class Ratios:
    """The node's rate beside those of the engine by itself, in Hz and as shares.

    Attributes:
        engine_hz, engine_ratio: at one frame at a time.
        engine_parallel_hz, engine_parallel_ratio: at as many as the node has concurrently, or at the better
            of one and two where it decides that; None where that is one.
        engine_beside_hz, engine_beside_ratio: at as many, beside a camera and a listener.
    """

    engine_hz: float
    engine_ratio: float
    engine_parallel_hz: float | None = None
    engine_parallel_ratio: float | None = None
    engine_beside_hz: float | None = None
    engine_beside_ratio: float | None = None


@dataclass(frozen=True)
class Row:
    """One run, as written to node.json: all numbers side by side, and none that was not measured.

    Attributes:
        setting: what was measured.
        run: its name.
        measured: None with a problem.
        ratios: of the run in which more frames are sent than the node can take.
        problem: why there are no numbers, or empty.
    """

    setting: Setting
    run: str
    measured: Run | None = None
    ratios: Ratios | None = None
    problem: str = ""

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        from rt_segmentation.benchmark.report import without_nan

        measured = {} if self.measured is None else without_nan(asdict(self.measured))
        ratios = {} if self.ratios is None else asdict(self.ratios)
        ratios = {key: value for key, value in ratios.items() if value is not None}
        problem = {"problem": self.problem} if self.problem else {}
        return {**asdict(self.setting), "run": self.run, **measured, **ratios, **problem}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(parser)
    add_sizes(parser)
    add_engine(parser)
    parser.add_argument(
        "--parallel",
        type=int,
        nargs="+",
        default=[1],
        help="the node's parallel_frames, one after the other (default 1; with --cameras the first)",
    )
    parser.add_argument(
        "--cameras",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="so many cameras concurrently with the first model and size: one node beside a node for each",
    )
    parser.add_argument("--minutes", type=minutes, default=10.0, help="of timing in all (default 10)")
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Measure the node with each model; writes node.json and node.md, each row when it is there.

    A setting that fails is a row that says so, and the others are measured all the same.

    Raises:
        BenchmarkError: there is no ROS 2 here, or no setting could be measured.
        ModelError: there is no such model.
        OptionError: a size is not WIDTHxHEIGHT, or the folder cannot be written.
        OSError: node.json or node.md could not be written, when the table was printed.
    """
    from rt_segmentation.benchmark.report import Result, SoFar
    from rt_segmentation.models import find_model

    check_outputs(arguments, folders=("out",))
    sizes = [parse_size(text) for text in arguments.sizes]
    if importlib.util.find_spec("rclpy") is None:
        raise BenchmarkError(
            "the node needs ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    if arguments.cameras:
        benchmark_cameras.main(arguments)
        return
    from rt_segmentation.benchmark.node import Bench

    plays = len(arguments.models) * len(arguments.parallel) * PLAYS * len(sizes)
    seconds = max(SHORTEST_PLAY_S, arguments.minutes * 60 / plays - OVERHEAD_S)
    engine = {"engine": arguments.engine, "precision": arguments.precision}
    manifests = {model: find_model(model) for model in arguments.models}
    rows: list[Row] = []
    result, so_far = Result(rows), SoFar(arguments.out, "node", say)
    with Bench(arguments.out / "logs", say) as bench:
        for model, manifest in manifests.items():
            for parallel in arguments.parallel:
                for size in sizes:
                    setting = _setting(manifest, model, parallel, size)
                    for row in with_failure(setting, _alone(bench, manifest, setting, engine, seconds)):
                        rows.append(row)
                        so_far.write(result.to_plain(), to_markdown(result))
    print(to_markdown(result))
    if all(row.problem for row in rows):
        raise BenchmarkError(f"no setting could be measured; {rows[0].problem}")
    so_far.check()


def with_failure(setting: Setting, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows of a setting; where it fails, those before and one more that says why."""
    try:
        yield from rows
    # A node that ended or gave no masks, an engine that fails by itself, a process that cannot be started.
    except (RuntimeError, OSError) as error:
        say(f"{setting.model}, {setting.parallel_frames} concurrently: failed: {error}")
        yield Row(setting, "failed", problem=" ".join(str(error).split()))


def _setting(manifest: ModelManifest, model: str, parallel: int, size: tuple[int, int]) -> Setting:
    from rt_segmentation.imaging.placement import width_for

    network = manifest.fixed_size or (width_for(size, manifest.height), manifest.height)
    return Setting("rt_segmentation", model, parallel, size, network)


def _alone(
    bench: Bench, manifest: ModelManifest, setting: Setting, engine: dict[str, str], seconds: float
) -> Iterator[Row]:
    """The highest rate, the rate where more is sent than the node can take, and the fixed rates."""
    from rt_segmentation.benchmark.node import SEGMENTATION, highest_rate

    size, parallel = setting.camera, setting.parallel_frames
    parameters: dict[str, Value] = {"model": setting.model, **engine, "parallel_frames": parallel}
    with bench.start(SEGMENTATION, parameters) as node:

        def play(rate_hz: float) -> Run:
            return bench.play(SEGMENTATION, node, size, rate_hz, seconds)

        latency_ms = bench.warm_up(SEGMENTATION, node, size)
        yield Row(setting, "highest", highest_rate(play, 1e3 / latency_ms))
        share = share_of_engine(bench, node, manifest.architecture, setting, engine, seconds)
        ratios = {field.name: getattr(share, field.name) for field in fields(Ratios)}
        yield Row(setting, "too much", share.run, Ratios(**ratios))
        for rate in FIXED_RATES_HZ:
            yield Row(setting, f"{rate:g} Hz", play(rate))


def share_of_engine(
    bench: Bench, node: Process, architecture: str, setting: Setting, engine: dict[str, str], seconds: float
) -> Share:
    """A setting's node beside its engine; see `measure` for what is raised."""
    from rt_segmentation.benchmark.engines import Row as EngineRow
    from rt_segmentation.benchmark.share import measure

    row = EngineRow(architecture, setting.model, *setting.network, engine["engine"], engine["precision"])
    return measure(bench, node, row, setting.parallel_frames, setting.camera, seconds)


def to_markdown(result: Result[Row]) -> str:
    """The runs as a table, the ratios as sentences."""
    from rt_segmentation.benchmark.report import page_head
    from rt_segmentation.benchmark.share import ROUNDS

    about = ("node", "model", "concurrently", "camera", "network", "run")
    heads = (*about, "sent [Hz]", "masks [Hz]", "missing")
    times = ("min [ms]", "p50 [ms]", "p95 [ms]", "max [ms]")
    units = (*times, "CPU [%]", "camera [%]", "receiver [%]", "memory [MB]", "cores [ns]")
    lines = [
        *page_head("The whole node over DDS", result),
        "`highest` is the highest rate found with less than 1 % of the frames missing; `too much` is 1.2"
        f" times the engine's own rate, of {ROUNDS} rounds in turn with the engine the one of median rate."
        " Latency is from the frame's stamp to the mask's arrival in another process; CPU and memory are the"
        " node's process's, `camera` and `receiver` the CPU of the processes at both ends.",
        "`concurrently` is the node's `parallel_frames`; `cores` is how long a byte takes from one core to"
        " the next and back, just before the run: two or three times the usual where they do not share a"
        " cache.",
        "",
        f"| {' | '.join(heads + units)} |",
        "|" + "---|" * len(heads + units),
    ]
    sentences = []
    for row in result.rows:
        setting, run, ratios = row.setting, row.measured, row.ratios
        camera, network = ("x".join(map(str, size)) for size in (setting.camera, setting.network))
        cells = [setting.node, setting.model, str(setting.parallel_frames), camera, network, row.run]
        if run is None:
            empty = " |" * (len(heads + units) - len(cells) - 1)
            lines.append(f"| {' | '.join([*cells, row.problem.replace('|', '/')])} |{empty}")
            continue
        cells += [f"{run.rate_hz:.1f}", f"{run.output_hz:.1f}", f"{run.drop_ratio:.1%}"]
        latencies = (run.latency_min_ms, run.latency_p50_ms, run.latency_p95_ms, run.latency_max_ms)
        cells += ["" if math.isnan(latency) else f"{latency:.1f}" for latency in latencies]
        percents = (run.cpu_percent, run.camera_percent, run.receiver_percent)
        whole = (*percents, run.memory_mb, run.core_round_trip_ns)
        cells += ["" if number is None else f"{number:.0f}" for number in whole]
        lines.append(f"| {' | '.join(cells)} |")
        if ratios is None:
            continue
        parallel = ""
        if ratios.engine_parallel_hz is not None:
            parallel = (
                f" at one frame at a time, and {ratios.engine_parallel_ratio:.2f} of"
                f" {ratios.engine_parallel_hz:.1f} Hz at {setting.parallel_frames or 'its best of 1 and 2'}"
            )
        number = setting.parallel_frames or "as many as it chose"
        sentences.append(
            f"- {setting.model}, {camera}, {number} concurrently: the node reaches"
            f" {ratios.engine_ratio:.2f} of the rate of its engine alone at {network},"
            f" {ratios.engine_hz:.1f} Hz{parallel}.{_beside(ratios)}"
        )
    return "\n".join([*lines, "", *sentences]) + "\n"


def _beside(ratios: Ratios) -> str:
    if ratios.engine_beside_hz is None:
        return ""
    return (
        f" Beside the same camera and a listener that does nothing with the images the engine alone gives"
        f" {ratios.engine_beside_hz:.1f} Hz: {ratios.engine_beside_ratio:.2f} of that."
    )
