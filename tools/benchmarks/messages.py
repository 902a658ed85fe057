"""What an image message costs the process that sends or receives it, by the ways that rclpy has.

`python -m tools.benchmarks.messages` writes messages.json and messages.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.report import Result, page_head, write_result
from rt_segmentation.commands.options import add_out, add_sizes, parse_size, say
from rt_segmentation.ros.messages import ReusedImage, image_message
from rt_segmentation.ros.middleware import start_ros
from tools.running import run_tool

IMAGES = {"mono8": 1, "rgb8": 3}
"""Channels of a label image and of a camera's or a colour image."""

REPEATS = 50
TAKE_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Costs:
    """Medians for one image [ms].

    Attributes:
        assign_bytes: a new message, `data = array.tobytes()`.
        frombytes: a new message, `data.frombytes(array)`.
        reused: the message that the node uses again, whose pixels are an array.
        publish: a message, with nobody listening: conversion to C, serialisation, hand-over to DDS.
        publish_cdr: the same of bytes that are serialised already.
        serialize: the bytes, by rclpy.
        deserialize: a message from bytes, and its pixels as an array.
        take: a message that has arrived, as a subscription gives it to its callback.
        take_cdr: the same of a raw subscription, whose callback gets serialised bytes.
    """

    assign_bytes: float
    frombytes: float
    reused: float
    publish: float
    publish_cdr: float
    serialize: float
    deserialize: float
    take: float
    take_cdr: float


@dataclass(frozen=True)
class Row:
    """What images of width x height [px] of an encoding cost, as written to messages.json."""

    width: int
    height: int
    encoding: str
    median_ms: Costs


def measure_messages(width: int, height: int, channels: int) -> Costs:
    """Measure with an image of width x height [px], uint8 with so many channels (1 or 3)."""
    encoding = "mono8" if channels == 1 else "rgb8"
    shape = (height, width) if channels == 1 else (height, width, channels)
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    reused = ReusedImage(encoding)

    def assign_bytes() -> None:
        message = Image(height=height, width=width, encoding=encoding, step=width * channels)
        message.data = pixels.tobytes()

    def fill_reused() -> None:
        np.copyto(reused.pixels(*shape), pixels)
        reused.message(Header())

    message = image_message(Header(), pixels, encoding)
    serialized = serialize_message(message)
    # A context of its own: what `rclpy.init` returns is one only from Kilted on.
    context = Context()
    start_ros("rt_seg", context=context)
    node = rclpy.create_node("rt_segmentation_benchmark", context=context)
    try:
        publisher = node.create_publisher(Image, "~/image", qos_profile_sensor_data)
        costs = Costs(
            assign_bytes=_median_ms(assign_bytes),
            frombytes=_median_ms(lambda: image_message(Header(), pixels, encoding)),
            reused=_median_ms(fill_reused),
            publish=_median_ms(lambda: publisher.publish(message)),
            publish_cdr=_median_ms(lambda: publisher.publish(serialized)),
            serialize=_median_ms(lambda: serialize_message(message)),
            deserialize=_median_ms(
                lambda: np.frombuffer(deserialize_message(serialized, Image).data, np.uint8)
            ),
            take=_take_ms(node, message, raw=False),
            take_cdr=_take_ms(node, message, raw=True),
        )
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return costs


def _take_ms(node: Node, message: Image, raw: bool) -> float:
    """Without the wait: of the attempts to take it, the one that succeeds."""
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    publisher = node.create_publisher(Image, "~/taken", qos)
    subscription = node.create_subscription(Image, "~/taken", lambda _: None, qos, raw=raw)
    durations_ms: list[float] = []
    deadline = time.monotonic() + TAKE_TIMEOUT_S
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.01)
    for _ in range(REPEATS):
        publisher.publish(message)
        taken = None
        while taken is None:
            if time.monotonic() > deadline:
                raise BenchmarkError(
                    f"of {REPEATS} images {len(durations_ms)} came back in {TAKE_TIMEOUT_S} s"
                )
            started = time.perf_counter()
            taken = subscription.handle.take_message(Image, raw)
            duration_ms = (time.perf_counter() - started) * 1e3
        durations_ms.append(duration_ms)
    node.destroy_subscription(subscription)
    node.destroy_publisher(publisher)
    return round(statistics.median(durations_ms), 3)


def _median_ms(action: Callable[[], object]) -> float:
    durations_ms = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action()
        durations_ms.append((time.perf_counter() - started) * 1e3)
    return round(statistics.median(durations_ms), 3)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_sizes(parser)
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Measure messages of each size; writes messages.json and messages.md."""
    rows: list[Row] = []
    for width, height in map(parse_size, arguments.sizes):
        for encoding, channels in IMAGES.items():
            costs = measure_messages(width, height, channels)
            rows.append(Row(width, height, encoding, costs))
            say(f"{width}x{height} {encoding}: {costs}")
    write_result(arguments.out, "messages", rows, to_markdown)


def to_markdown(result: Result[Row]) -> str:
    """The costs as a table."""
    ways = [way.name for way in fields(Costs)]
    lines = [
        *page_head("Image messages", result),
        "Medians in ms. Filled by `data = array.tobytes()`, by `data.frombytes(array)`, or as the node does,"
        " into a message that is used again; published as a message or as bytes that are serialised already,"
        " with nobody listening; serialised and read by rclpy; taken by a subscription after it has arrived,"
        " as a message or, by a raw one, as serialised bytes.",
        "",
        f"| image | encoding | {' | '.join(way.replace('_', ' ') for way in ways)} |",
        "|" + "---|" * (len(ways) + 2),
    ]
    for row in result.rows:
        cells = [f"{row.width}x{row.height}", row.encoding]
        cells += [f"{getattr(row.median_ms, way):.3f}" for way in ways]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
