"""The whole node over DDS: rates, drops and latencies, after the method of ros2_benchmark.

A player publishes frames rendered beforehand; the node is a process of its own; this process receives the
masks. The highest rate with less than 1 % of the frames missing is searched for, then fixed rates follow.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from rt_segmentation.ros.demo.processes import Process, ros_environment
from rt_segmentation.ros.messages import stamp_ns

ALLOWED_DROPS = 0.01
FIXED_RATES_HZ = (10.0, 30.0, 60.0)
START_TIMEOUT_S = 60.0
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
        cpu_percent: of the node's process, 100 = one core.
        memory_mb: resident, of the node's process at the end.
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


class _Receiver(Node):
    def __init__(self, topic: str) -> None:
        super().__init__("benchmark_receiver")
        self.arrivals: list[tuple[float, float]] = []
        qos = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(Image, topic, self._receive, qos)

    def _receive(self, message: Image) -> None:
        latency_ms = (self.get_clock().now().nanoseconds - stamp_ns(message.header)) / 1e6
        self.arrivals.append((time.monotonic(), latency_ms))


def benchmark_node(
    module: str,
    parameters: dict[str, object],
    label_topic: str,
    size: tuple[int, int],
    out: Path,
    seconds: float,
    report: Callable[[str], None],
    rates_hz: Sequence[float] = FIXED_RATES_HZ,
) -> dict[str, Run]:
    """Measure one node.

    Args:
        module: the node's, for ``python -m``.
        parameters: the node's.
        label_topic: what it publishes.
        size: (width, height) of the camera's frames [px].
        out: folder for the processes' logs.
        seconds: of playing at each rate.
        report: told what happens.
        rates_hz: fixed rates, after the search.

    Returns:
        'highest' for the highest rate held, and each fixed rate by its number.

    Raises:
        RuntimeError: the node ended, or gave no masks.
    """
    environment = ros_environment()
    os.environ.update(environment)
    out.mkdir(parents=True, exist_ok=True)
    rclpy.init()
    receiver = _Receiver(label_topic)
    try:
        with Process(module, parameters, environment, out / "node.log") as node:

            def play(rate_hz: float) -> Run:
                count = max(10, round(rate_hz * seconds))
                run = _play(receiver, node, environment, out, size, rate_hz, count)
                report(
                    f"{rate_hz:.1f} Hz: {run.masks} masks of {count} frames, p50 {run.latency_p50_ms:.1f} ms"
                )
                return run

            # The first frames build buffers and, with some engines, the network itself.
            warm_up = play(2.0)
            if not warm_up.masks:
                raise RuntimeError(f"the node gave no masks; it said: {node.last_words()}")
            runs = {"highest": _search(play, 1e3 / warm_up.latency_p50_ms)}
            runs.update({f"{rate:g}": play(rate) for rate in rates_hz})
    finally:
        receiver.destroy_node()
        rclpy.try_shutdown()
    return runs


def _search(play: Callable[[float], Run], guess_hz: float) -> Run:
    """Step to a rate that is held and one that is not, then bisect between them, on a logarithmic scale."""
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


def _play(
    receiver: _Receiver,
    node: Process,
    environment: dict[str, str],
    out: Path,
    size: tuple[int, int],
    rate_hz: float,
    count: int,
) -> Run:
    receiver.arrivals.clear()
    settings = {"rate_hz": rate_hz, "count": count, "width": size[0], "height": size[1]}
    cpu_before, started = node.cpu_seconds(), time.monotonic()
    with Process("rt_segmentation.benchmark.player", settings, environment, out / "player.log") as player:
        deadline = time.monotonic() + START_TIMEOUT_S + 2 * count / rate_hz
        quiet_since = time.monotonic()
        while time.monotonic() < deadline:
            before = len(receiver.arrivals)
            rclpy.spin_once(receiver, timeout_sec=0.05)
            if len(receiver.arrivals) > before or player.exit_status is None:
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since > 1.5:
                break
            if node.exit_status is not None:
                raise RuntimeError(f"the node ended: {node.last_words()}")
    cpu = (node.cpu_seconds() - cpu_before) / (time.monotonic() - started) * 100
    latencies = np.array([latency for _, latency in receiver.arrivals] or [np.nan])
    times = [arrived for arrived, _ in receiver.arrivals]
    span = times[-1] - times[0] if len(times) > 1 else 0.0
    return Run(
        rate_hz=round(rate_hz, 2),
        frames=count,
        masks=len(times),
        drop_ratio=round(1 - len(times) / count, 4),
        output_hz=round((len(times) - 1) / span, 2) if span else 0.0,
        latency_min_ms=round(float(latencies.min()), 2),
        latency_p50_ms=round(float(np.percentile(latencies, 50)), 2),
        latency_p95_ms=round(float(np.percentile(latencies, 95)), 2),
        latency_max_ms=round(float(latencies.max()), 2),
        cpu_percent=round(cpu, 1),
        memory_mb=round(node.resident_mb(), 1),
    )
