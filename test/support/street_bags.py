"""Bags of streets with labels, and the arguments to evaluate them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.models import ModelManifest
from support.streets import street_scene

TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE = "sensor_msgs/msg/Image"
BEGIN_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
WIDTH, HEIGHT = 160, 120
# To draw a street takes longer than to segment it.
MOMENTS = 12


@lru_cache
def street(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels of a moment, uint8 (H, W, 3) and (H, W)."""
    rgb, labels = street_scene(1, WIDTH, HEIGHT).render(0.3 * number)[:2]
    return rgb, labels


def image(pixels: np.ndarray, stamp_ns: int, **fields: Any) -> Any:
    """An Image message."""
    header = TYPES.types["std_msgs/msg/Header"](
        stamp=TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), frame_id="camera"
    )
    content = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": "mono8" if pixels.ndim == 2 else "rgb8",
        "is_bigendian": 0,
        "step": pixels.nbytes // pixels.shape[0],
        "data": np.ascontiguousarray(pixels).reshape(-1),
    }
    return TYPES.types[IMAGE](header=header, **{**content, **fields})


def write_bag(path: Path, messages: Sequence[tuple[str, int, Any]]) -> Path:
    """Write (topic, recorded_ns, Image) into a bag, in that order."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for topic, recorded_ns, content in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, IMAGE, typestore=TYPES)
            writer.write(connections[topic], recorded_ns, TYPES.serialize_cdr(content, IMAGE))
    return path


def write_splits(path: Path, messages: Sequence[tuple[str, int, Any]]) -> Path:
    """As `write_bag`, with a new file where the time goes back: within one, messages are read by time."""
    with BagWriter(path, split_s=1e6) as writer:
        for topic, recorded_ns, content in messages:
            writer.write(topic, IMAGE, recorded_ns, content)
    return path


def street_bag(
    path: Path,
    frames: int,
    first: int = 0,
    change: Callable[[int, Any], Any] = lambda _, message: message,
    label_shift_ns: int = 0,
    period_ns: int = PERIOD_NS,
) -> Path:
    """A bag of streets: `camera` and `truth`, images at 10 Hz.

    Args:
        path: the bag's folder.
        frames: how many.
        first: number of the first moment.
        change: is given number and message of each image, returns the message to write.
        label_shift_ns: added to the labels' stamps.
        period_ns: of the frames.
    """
    messages = []
    for i in range(frames):
        rgb, labels = street((first + i) % MOMENTS)
        stamp = BEGIN_NS + i * period_ns
        messages.append(("camera", stamp + 1_000_000, change(i, image(rgb, stamp))))
        messages.append(("truth", stamp + 2_000_000, image(labels, stamp + label_shift_ns)))
    return write_bag(path, messages)


def settings(model: ModelManifest, out: Path, **changes: Any) -> Settings:
    """Torch in float32 on the bag's labels."""
    given: dict[str, Any] = {
        "models": (str(model.path),),
        "out": out,
        "engine": "torch",
        "precision": "fp32",
        "image_topic": "camera",
        "label_topic": "truth",
    }
    return Settings(**{**given, **changes})


TIMINGS = ("fps", "engine_fps", "latency_ms", "inference_ms", "age_ms", "latency_histogram")


def without_timings(result: dict[str, Any]) -> dict[str, Any]:
    """What must be the same on every machine and with any number of workers."""
    kept = {key: value for key, value in result.items() if key not in ("command", "date")}
    kept["models"] = [
        {
            **{key: value for key, value in model.items() if key not in TIMINGS},
            "timeline": [
                {key: value for key, value in entry.items() if not key.startswith("latency")}
                for entry in model["timeline"]
            ],
        }
        for model in result["models"]
    ]
    return kept
