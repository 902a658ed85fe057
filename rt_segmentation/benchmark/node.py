"""A node over DDS at a rate, and the highest rate it holds, after the method of ros2_benchmark.

A player publishes frames rendered beforehand; the node is a process of its own; this process receives the
masks.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from rt_segmentation.benchmark.cores import core_round_trip_ns
from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.ros.middleware import start_ros
from rt_segmentation.ros.parameters import Value
from rt_segmentation.ros.processes import Process, ros_environment
from rt_segmentation.ros.reader import ReadElsewhere, Reader
from rt_segmentation.ros.signals import ended_by_sigterm

ALLOWED_DROPS, POLL_S = 0.01, 0.05
# From a cold cache an engine takes a minute or two.
BUILD_TIMEOUT_S = 300.0
START_TIMEOUT_S = 30.0
QUIET_S = 1.5
LOWEST_HZ, HIGHEST_HZ = 0.5, 240.0
SEARCH_STEPS = 8
SEARCH_FACTOR = 1.6
ENOUGH = 1.06


@dataclass
class Run:
    """One rate.

    Attributes:
        rate_hz: at which frames were published.
        frames, masks: published, received.
        drop_ratio: share of the frames without a mask.
        output_hz: masks a second, from the first to the last.
        latency_*_ms: from the frame's stamp to the mask's arrival.
        cpu_percent: of the node's process, 100 = one core, from the first mask to the last.
        memory_mb: resident, of the node's process at the end.
        core_round_trip_ns: measured just before (`cores`); None on one core.
        camera_percent, receiver_percent: of the processes that send the frames and receive the masks.
    """

    rate_hz: float
    frames: int
    masks: int
    drop_ratio: float
    output_hz: float
    latency_min_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_max_ms: float
    cpu_percent: float
    memory_mb: float
    core_round_trip_ns: float | None = None
    camera_percent: float | None = None
    receiver_percent: float | None = None


@dataclass(frozen=True)
class Subject:
    """A node to be measured.

    Attributes:
        name: for logs.
        module: for ``python -m``.
        image, label: topics that it subscribes to and publishes.
    """

    name: str
    module: str
    image: str
    label: str


SEGMENTATION = Subject(
    "segmentation_node", "rt_segmentation.ros.segmentation_node", "/image", "/segmentation_node/label"
)


class Bench:
    """This process as the receiver of masks, in a ROS domain and an environment for large images; a context.

    Args:
        out: folder for the processes' logs.
        report: told what happens.
    """

    def __init__(self, out: Path, report: Callable[[str], None]) -> None:
        self._out, self.report = out, report
        self._started = 0

    def __enter__(self) -> Bench:
        self._out.mkdir(parents=True, exist_ok=True)
        self._environment = ros_environment()
        os.environ.update(self._environment)
        with contextlib.ExitStack() as stack:
            stack.enter_context(ended_by_sigterm())
            start_ros("rt_seg")
            stack.callback(rclpy.try_shutdown)
            self._node = Node("benchmark_receiver", start_parameter_services=False, enable_rosout=False)
            stack.callback(self._node.destroy_node)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, subject: Subject, parameters: Mapping[str, Value]) -> Process:
        """Start a node; it ends with the process's `with` block."""
        log = self._out / f"{subject.name}.log"
        return Process(subject.module, parameters, self._environment, log)

    @property
    def node(self) -> Node:
        """That receives."""
        return self._node

    def pause(self, seconds: float) -> None:
        """Wait; a signal's exception ends it."""
        time.sleep(seconds)

    @contextlib.contextmanager
    def receiving(self, topic: str, receive: Callable[[Image], None]) -> Iterator[None]:
        """Hand over a topic's images, on a thread of its own, while the block lasts."""
        qos = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
        group = ReadElsewhere()
        subscription = self._node.create_subscription(Image, topic, receive, qos, callback_group=group)
        reader = Reader(self._node, subscription, lambda message, _: receive(message))
        try:
            yield
        finally:
            reader.close()
            self._node.destroy_subscription(subscription)

    @contextlib.contextmanager
    def sending(
        self, size: tuple[int, int], rate_hz: float, seconds: float, cameras: int = 1
    ) -> Iterator[None]:
        """While the block lasts, but no longer than so many seconds, cameras send to listeners.

        The block begins when each has sent an image; the listeners do nothing with them.

        Raises:
            BenchmarkError: they do not.
        """
        topics = [f"/benchmark/plain_image_{number}" for number in range(cameras)]
        begun: set[str] = set()

        def note(topic: str, _: Image) -> None:
            begun.add(topic)

        with contextlib.ExitStack() as stack:
            for topic in topics:
                stack.enter_context(self.receiving(topic, partial(note, topic)))
            stack.enter_context(self.player(topics, size, rate_hz, math.ceil(rate_hz * seconds)))
            deadline = time.monotonic() + START_TIMEOUT_S
            while len(begun) < cameras:
                self.pause(POLL_S)
                if time.monotonic() > deadline:
                    raise BenchmarkError("the camera sends nothing: the machine is too busy")
            yield

    def player(self, topics: Sequence[str], size: tuple[int, int], rate_hz: float, count: int) -> Process:
        """Start a camera for each topic; they end with the process's `with` block, or after all frames."""
        settings: dict[str, Value] = {"topics": [*topics], "rate_hz": rate_hz, "count": count}
        settings.update(width=size[0], height=size[1])
        log = self._out / "player.log"
        return Process("rt_segmentation.benchmark.player", settings, self._environment, log)

    def process(self, module: str, parameters: Mapping[str, Value], namespace: str = "/") -> Process:
        """Start a module as a node, with a log of its own; it ends with the process's `with` block."""
        self._started += 1
        log = self._out / f"{module.rpartition('.')[2]}_{self._started}.log"
        return Process(module, parameters, self._environment, log, namespace)

    def warm_up(self, subject: Subject, process: Process, size: tuple[int, int]) -> float:
        """Play slowly until masks come: the first frames build buffers and, with some engines, the network.

        Returns:
            The median latency, the first frame's left out [ms].

        Raises:
            BenchmarkError: the node ended, or gave no masks.
        """
        deadline = time.monotonic() + BUILD_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.play(subject, process, size, 2.0, 1.0).masks:
                latency_ms = self.play(subject, process, size, 2.0, 2.0).latency_p50_ms
                # A busy machine may give masks once, and none of the next frames in time.
                if not math.isnan(latency_ms):
                    return latency_ms
        raise BenchmarkError(f"{subject.name} gave no masks; it said: {process.last_words()}")

    def play(
        self, subject: Subject, process: Process, size: tuple[int, int], rate_hz: float, seconds: float
    ) -> Run:
        """Publish frames of (width, height) px at a rate for some seconds, and receive the masks.

        Raises:
            BenchmarkError: the node ended.
        """
        # So many that the rate is known; a slow node gets the time for them.
        count = max(4, round(rate_hz * seconds))
        # For each mask: when it arrived, and its latency [ms].
        masks: list[tuple[float, float]] = []
        # Now and then: when, and the processor time of node, camera and receiver until then [s].
        cpu: list[tuple[float, float, float, float]] = []
        round_trip_ns = core_round_trip_ns()
        started_ns = self._node.get_clock().now().nanoseconds

        def receive(message: Image) -> None:
            # What is older is of the rate before.
            if stamp_ns(message.header) < started_ns:
                return
            latency_ms = (self._node.get_clock().now().nanoseconds - stamp_ns(message.header)) / 1e6
            masks.append((time.monotonic(), latency_ms))

        with (
            self.receiving(subject.label, receive),
            self.player([subject.image], size, rate_hz, count) as player,
        ):
            deadline = time.monotonic() + START_TIMEOUT_S + 2 * count / rate_hz
            quiet_since = time.monotonic()
            while time.monotonic() < min(deadline, quiet_since + QUIET_S):
                before = len(masks)
                self.pause(POLL_S)
                camera_s = player.cpu_seconds()
                if camera_s:
                    cpu.append((time.monotonic(), process.cpu_seconds(), camera_s, time.process_time()))
                if len(masks) > before or player.exit_status is None:
                    quiet_since = time.monotonic()
                if process.exit_status is not None:
                    raise BenchmarkError(f"{subject.name} ended: {process.last_words()}")
        run = _summary(rate_hz, count, masks, cpu, process.resident_mb(), round_trip_ns)
        self.report(
            f"{subject.name}, {rate_hz:.1f} Hz: {run.masks} masks of {count} frames,"
            f" p50 {run.latency_p50_ms:.1f} ms"
        )
        return run


def highest_rate(play: Callable[[float], Run], guess_hz: float) -> Run:
    """Search for the highest rate at which less than 1 % of the frames get no mask.

    Steps to a rate that is held and one that is not, then bisects between them, on a logarithmic scale.

    Args:
        play: measures a rate [Hz].
        guess_hz: where to begin.
    """
    held: float | None = None
    missed: float | None = None
    best: Run | None = None
    rate = min(max(guess_hz, LOWEST_HZ), HIGHEST_HZ)
    for _ in range(SEARCH_STEPS):
        run = play(rate)
        if run.drop_ratio < ALLOWED_DROPS:
            held, best = rate, run
        else:
            missed = rate
        if held is None:
            rate = max(rate / SEARCH_FACTOR, LOWEST_HZ)
        elif missed is None:
            rate = min(rate * SEARCH_FACTOR, HIGHEST_HZ)
        elif missed / held < ENOUGH:
            break
        else:
            rate = math.sqrt(held * missed)
    return best or play(LOWEST_HZ)


def _summary(
    rate_hz: float,
    count: int,
    masks: list[tuple[float, float]],
    cpu: list[tuple[float, float, float, float]],
    memory_mb: float,
    core_round_trip_ns: float | None,
) -> Run:
    arrived, latencies = np.array(masks or [(np.nan,) * 2]).T
    looked_at, *taken_s = np.array(cpu or [(np.nan,) * 4]).T
    span = float(arrived[-1] - arrived[0]) if len(masks) > 1 else np.nan
    percents = [
        round(float(np.diff(np.interp((arrived[0], arrived[-1]), looked_at, each))[0]) / span * 100, 1)
        for each in taken_s
    ]
    return Run(
        rate_hz=round(rate_hz, 2),
        frames=count,
        masks=len(masks),
        drop_ratio=round(1 - len(masks) / count, 4),
        output_hz=round((len(masks) - 1) / span, 2) if len(masks) > 1 else 0.0,
        latency_min_ms=round(float(latencies.min()), 2),
        latency_p50_ms=round(float(np.percentile(latencies, 50)), 2),
        latency_p95_ms=round(float(np.percentile(latencies, 95)), 2),
        latency_max_ms=round(float(latencies.max()), 2),
        cpu_percent=percents[0],
        memory_mb=round(memory_mb, 1),
        core_round_trip_ns=core_round_trip_ns,
        camera_percent=percents[1],
        receiver_percent=percents[2],
    )
