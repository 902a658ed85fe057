"""What an image message costs the process that sends or receives it, by the ways that rclpy has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.ros.messages import ReusedImage, image_message

REPEATS = 50


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
    """

    assign_bytes: float
    frombytes: float
    reused: float
    publish: float
    publish_cdr: float
    serialize: float
    deserialize: float


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
    with rclpy.init():
        node = rclpy.create_node("rt_segmentation_benchmark")
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
        )
        node.destroy_node()
    return costs


def _median_ms(action: Callable[[], object]) -> float:
    durations_ms = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action()
        durations_ms.append((time.perf_counter() - started) * 1e3)
    return round(statistics.median(durations_ms), 3)
