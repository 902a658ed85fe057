"""Several cameras over DDS: one node for all of them, beside a node for each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sensor_msgs.msg import Image

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.node import (
    BUILD_TIMEOUT_S,
    POLL_S,
    QUIET_S,
    SEGMENTATION,
    START_TIMEOUT_S,
    Bench,
)
from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.ros.parameters import Value
from rt_segmentation.ros.processes import Process

WARM_UP_QUIET_S = 10.0


@dataclass(frozen=True)
class Part:
    """One process of a layout.

    Attributes:
        module: for ``python -m``.
        namespace: of its node.
        parameters: of its node.
    """

    module: str
    namespace: str
    parameters: Mapping[str, Value]


@dataclass(frozen=True)
class Layout:
    """How cameras are shared among nodes.

    Attributes:
        name: in words.
        parts: the processes.
        images, labels: each camera's topics.
    """

    name: str
    parts: tuple[Part, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class CamerasRun:
    """A layout at one rate.

    Attributes:
        layout: its name.
        cameras: how many.
        rate_hz: at which frames were published, of each camera.
        fewest: masks of the camera that got the fewest.
        masks_hz: of all cameras together, from the first mask to the last.
        least_hz: of the camera with the fewest.
        latency_p50_ms, latency_p95_ms: from a frame's stamp to its mask's arrival, of all cameras.
        worst_p95_ms: of the camera that waited longest.
        memory_mb: resident, of all processes of the layout.
    """

    layout: str
    cameras: int
    rate_hz: float
    fewest: int
    masks_hz: float
    least_hz: float
    latency_p50_ms: float
    latency_p95_ms: float
    worst_p95_ms: float
    memory_mb: float


def one_node(cameras: int, parameters: Mapping[str, Value]) -> Layout:
    """One node of ours for all cameras."""
    names = [f"camera_{number}" for number in range(cameras)]
    above = "/together"
    return Layout(
        "one node",
        (Part(SEGMENTATION.module, above, {**parameters, "cameras": names}),),
        tuple(f"{above}/{name}/image" for name in names),
        tuple(f"{above}/segmentation_node/{name}/label" for name in names),
    )


def separate_nodes(cameras: int, parameters: Mapping[str, Value]) -> Layout:
    """A node of ours for each camera."""
    above = [f"/separate_{number}" for number in range(cameras)]
    return Layout(
        "separate nodes",
        tuple(Part(SEGMENTATION.module, namespace, parameters) for namespace in above),
        tuple(f"{namespace}/image" for namespace in above),
        tuple(f"{namespace}/segmentation_node/label" for namespace in above),
    )


@contextlib.contextmanager
def started(bench: Bench, layout: Layout) -> Iterator[list[Process]]:
    """The processes of a layout, which end with the block."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(bench.process(part.module, part.parameters, part.namespace))
            for part in layout.parts
        ]


def warm_up(bench: Bench, layout: Layout, processes: Sequence[Process], size: tuple[int, int]) -> float:
    """Wait until the nodes listen to their cameras, and play slowly until each camera has masks.

    Returns:
        How long a mask takes at most at that rate [s].

    Raises:
        BenchmarkError: a node ended, does not listen, or gave no masks.
    """
    deadline = time.monotonic() + BUILD_TIMEOUT_S
    # A node may listen only while somebody wants its masks. Several that start concurrently take long.
    with _listening(bench, layout, lambda *_: None):
        while waited_for := [topic for topic in layout.images if not bench.node.count_subscribers(topic)]:
            if time.monotonic() > deadline:
                words = processes[layout.images.index(waited_for[0]) % len(processes)].last_words()
                raise BenchmarkError(f"nobody listens to {waited_for[0]} in {layout.name}; it said: {words}")
            bench.pause(POLL_S)
            _check_alive(layout, processes)
    while time.monotonic() < deadline:
        # On a busy machine the first masks take long.
        if play(bench, layout, processes, size, 2.0, 2.0, WARM_UP_QUIET_S).fewest:
            # The first ones may have waited for an engine that was built.
            return play(bench, layout, processes, size, 2.0, 2.0, WARM_UP_QUIET_S).worst_p95_ms / 1e3
    raise BenchmarkError(f"{layout.name} gave no masks; it said: {processes[0].last_words()}")


@contextlib.contextmanager
def _listening(bench: Bench, layout: Layout, receive: Callable[[int, Image], None]) -> Iterator[None]:
    """Subscribe to the masks; `receive` gets a camera's number and its mask, on a thread of each camera."""
    with contextlib.ExitStack() as stack:
        for number, topic in enumerate(layout.labels):
            stack.enter_context(bench.receiving(topic, partial(receive, number)))
        yield


def _check_alive(layout: Layout, processes: Sequence[Process]) -> None:
    for process in processes:
        if process.exit_status is not None:
            raise BenchmarkError(f"{layout.name} ended: {process.last_words()}")


def play(
    bench: Bench,
    layout: Layout,
    processes: Sequence[Process],
    size: tuple[int, int],
    rate_hz: float,
    seconds: float,
    quiet_s: float = QUIET_S,
) -> CamerasRun:
    """Publish frames of (width, height) px for each camera for some seconds, and receive the masks.

    It is over when all frames are sent and no mask has come for `quiet_s` seconds.

    Raises:
        BenchmarkError: a node ended, or the frames could not be sent.
    """
    node, count = bench.node, max(4, round(rate_hz * seconds))
    # For each camera's masks: when it arrived [s], and its latency [ms].
    masks: list[list[tuple[float, float]]] = [[] for _ in layout.labels]
    started_ns = node.get_clock().now().nanoseconds

    def receive(camera: int, message: Image) -> None:
        stamp = stamp_ns(message.header)
        if stamp >= started_ns:
            masks[camera].append((time.monotonic(), (node.get_clock().now().nanoseconds - stamp) / 1e6))

    with _listening(bench, layout, receive), bench.player(layout.images, size, rate_hz, count) as player:
        deadline = time.monotonic() + START_TIMEOUT_S + 2 * count / rate_hz
        quiet_since = time.monotonic()
        while time.monotonic() < min(deadline, quiet_since + quiet_s):
            before = sum(map(len, masks))
            bench.pause(POLL_S)
            if sum(map(len, masks)) > before or player.exit_status is None:
                quiet_since = time.monotonic()
            _check_alive(layout, processes)
        if player.exit_status is None:
            raise BenchmarkError("the frames could not be sent in time: the machine is too busy")
    run = summary(layout.name, rate_hz, masks, sum(process.resident_mb() for process in processes))
    bench.report(
        f"{layout.name}, {run.cameras} cameras at {rate_hz:g} Hz: {run.masks_hz:.1f} masks per second,"
        f" p95 {run.latency_p95_ms:.0f} ms"
    )
    return run


def summary(
    name: str, rate_hz: float, masks: Sequence[Sequence[tuple[float, float]]], memory_mb: float
) -> CamerasRun:
    """What came of a run.

    Args:
        name: of the layout.
        rate_hz: of each camera.
        masks: for each camera when they arrived [s] and their latency [ms].
        memory_mb: of all processes.
    """
    arrived = [time_s for camera in masks for time_s, _ in camera]
    latencies = [[latency for _, latency in camera] for camera in masks if camera]
    span = max(arrived) - min(arrived) if len(arrived) > 1 else 0.0
    masks_hz = (len(arrived) - 1) / span if span else 0.0
    whole = [latency for camera in latencies for latency in camera] or [float("nan")]
    return CamerasRun(
        layout=name,
        cameras=len(masks),
        rate_hz=rate_hz,
        fewest=min(map(len, masks)),
        masks_hz=round(masks_hz, 2),
        least_hz=round(masks_hz * min(map(len, masks)) / max(len(arrived), 1), 2),
        latency_p50_ms=round(float(np.percentile(whole, 50)), 1),
        latency_p95_ms=round(float(np.percentile(whole, 95)), 1),
        worst_p95_ms=round(max((float(np.percentile(camera, 95)) for camera in latencies), default=0.0), 1),
        memory_mb=round(memory_mb, 1),
    )
