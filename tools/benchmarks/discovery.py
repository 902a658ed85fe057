"""How long a process that starts waits for one that publishes already, by how Fast DDS is set.

`python -m tools.benchmarks.discovery` writes discovery.json and discovery.md.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import rclpy
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Header

from rt_segmentation.benchmark.errors import BenchmarkError
from rt_segmentation.benchmark.report import Result, page_head, write_result
from rt_segmentation.commands.options import add_out, say
from rt_segmentation.resources import share_dir
from rt_segmentation.ros.environment import PROFILES_VARIABLES
from rt_segmentation.ros.middleware import start_ros
from rt_segmentation.ros.processes import ros_environment
from tools.running import run_tool

TOPIC = "/discovered"
PERIOD_S = 0.02
PATIENCE_S = 30.0
PUBLISH, SUBSCRIBE = "publish", "subscribe"
ROLE = "DISCOVERY_ROLE"
"""Of a process of this module's own; without it the module is the command."""

SETTINGS = ("Fast DDS's own", "config/fastdds.xml")


@dataclass(frozen=True)
class Row:
    """Starts beside one publisher.

    Attributes:
        settings: of Fast DDS, in all processes.
        waits_s: from a subscription's making to its first message, of each start, sorted.
    """

    settings: str
    waits_s: list[float]


def publish() -> None:
    """Publish small messages until the process is ended."""
    node = rclpy.create_node("publishes")
    publisher = node.create_publisher(Header, TOPIC, qos_profile_sensor_data)
    while True:
        publisher.publish(Header())
        time.sleep(PERIOD_S)


def subscribe() -> None:
    """Print how long the first message takes [s]."""
    node = rclpy.create_node("starts")
    came: list[Header] = []
    node.create_subscription(Header, TOPIC, came.append, qos_profile_sensor_data)
    began = time.monotonic()
    while not came and time.monotonic() - began < PATIENCE_S:
        rclpy.spin_once(node, timeout_sec=PERIOD_S)
    if came:
        print(f"{time.monotonic() - began:.3f}", flush=True)


def measure(settings: str, starts: int) -> Row:
    """Start subscribers one after the other beside one publisher.

    Raises:
        BenchmarkError: a subscriber got nothing.
    """
    environment = {key: value for key, value in ros_environment().items() if key not in PROFILES_VARIABLES}
    if settings == SETTINGS[1]:
        environment.update(dict.fromkeys(PROFILES_VARIABLES, str(share_dir() / SETTINGS[1])))
    command = [sys.executable, "-m", "tools.benchmarks.discovery"]
    publisher = subprocess.Popen(command, env={**environment, ROLE: PUBLISH}, stderr=subprocess.DEVNULL)
    waits_s = []
    try:
        for _ in range(starts):
            # Not in step with what the publisher does from time to time.
            time.sleep(random.uniform(0.5, 3.5) if starts > 1 else 0.0)
            done = subprocess.run(
                command, env={**environment, ROLE: SUBSCRIBE}, capture_output=True, text=True, check=False
            )
            if not done.stdout:
                raise BenchmarkError(f"no message came in {PATIENCE_S:.0f} s: {done.stderr.strip()[-200:]}")
            waits_s.append(float(done.stdout))
    finally:
        publisher.kill()
        publisher.wait()
    return Row(settings, sorted(waits_s))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--starts", type=int, default=20, help="for each setting (default 20)")
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Measure each setting; writes discovery.json and discovery.md."""
    rows = []
    for settings in SETTINGS:
        rows.append(measure(settings, max(1, arguments.starts)))
        say(f"{settings}: {rows[-1].waits_s}")
    write_result(arguments.out, "discovery", rows, to_markdown)


def to_markdown(result: Result[Row]) -> str:
    """The waits as a table."""
    lines = [
        *page_head("A process that starts beside one that publishes", result),
        "Seconds from a subscription's making to its first message; the publisher sends 50 per second.",
        "",
        "| Fast DDS's settings | starts | median [s] | above 1 s | longest [s] |",
        "|---|---|---|---|---|",
    ]
    for row in result.rows:
        late = sum(wait > 1.0 for wait in row.waits_s)
        median = statistics.median(row.waits_s)
        lines.append(
            f"| {row.settings} | {len(row.waits_s)} | {median:.2f} | {late} | {row.waits_s[-1]:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if ROLE in os.environ:
        start_ros("discovery")
        publish() if os.environ[ROLE] == PUBLISH else subscribe()
        rclpy.try_shutdown()
    else:
        run_tool(__doc__, add_arguments, main)
