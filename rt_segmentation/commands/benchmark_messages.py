"""`rt_seg benchmark messages`: what image messages cost their sender and their receiver."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rt_segmentation.benchmark.report import page_head, write_result
from rt_segmentation.inference.engines import EngineUnavailable

IMAGES = {"mono8": 1, "rgb8": 3}
"""Channels of a label image and of a camera's or a colour image."""


def run(arguments: argparse.Namespace, sizes: Sequence[tuple[int, int]], say: Callable[[str], None]) -> None:
    """Measure messages of each size; writes messages.json and messages.md.

    Args:
        arguments: of the command line.
        sizes: (width, height) of the images [px].
        say: told what happens.

    Raises:
        EngineUnavailable: there is no ROS 2 here.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise EngineUnavailable(
            "messages need ROS 2: source an installation, or pip install '.[ros]' in this package's folder"
        )
    from rt_segmentation.benchmark.messages import measure_messages

    rows: list[dict[str, Any]] = []
    for width, height in sizes:
        for encoding, channels in IMAGES.items():
            costs = measure_messages(width, height, channels)
            rows.append({"width": width, "height": height, "encoding": encoding, "median_ms": asdict(costs)})
            say(f"{width}x{height} {encoding}: {costs}")
    write_result(arguments.out, "messages", rows, to_markdown)


def to_markdown(content: dict[str, Any]) -> str:
    """The costs as a table."""
    ways = list(content["rows"][0]["median_ms"])
    lines = [
        *page_head("Image messages", content),
        "Medians in ms. Filled by `data = array.tobytes()`, by `data.frombytes(array)`, or as the node does,"
        " into a message that is used again; published as a message or as bytes that are serialised already,"
        " with nobody listening; serialised and read by rclpy; taken by a subscription after it has arrived,"
        " as a message or, by a raw one, as serialised bytes.",
        "",
        f"| image | encoding | {' | '.join(way.replace('_', ' ') for way in ways)} |",
        "|" + "---|" * (len(ways) + 2),
    ]
    for row in content["rows"]:
        cells = [f"{row['width']}x{row['height']}", row["encoding"]]
        cells += [f"{row['median_ms'][way]:.3f}" for way in ways]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
