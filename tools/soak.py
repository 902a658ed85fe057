"""Run the node for hours with a camera, and plot what it holds of the machine.

`python tools/soak.py --hours 8 --out output/soak` writes soak.csv while it runs, and soak.png at the end or
when it is interrupted. Exit status 1 where memory grew by more than `--growth` after the first tenth of the
time, or a frame is not accounted for.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

COLUMNS = ("hours", "resident_mb", "threads", "files", "shared", "received", "published", "dropped", "lost")
KEYS = ("frames received", "masks published", "frames dropped", "messages lost by the middleware")


class Watch:
    """Listens to the masks and the diagnostics of a node."""

    def __init__(self, name: str) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image

        # The arguments of the command are not ROS's.
        rclpy.init(args=[])
        self._status = f"{name}: segmentation"
        self.node: Any = rclpy.create_node("soak")
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self.node.create_subscription(Image, f"{name}/label", lambda _: None, qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._read, qos)
        self.counts = [0] * len(KEYS)

    def _read(self, report: Any) -> None:
        for status in report.status:
            if status.name == self._status:
                values = {pair.key: pair.value for pair in status.values}
                self.counts = [int(values.get(key, 0)) for key in KEYS]

    def spin(self, seconds: float) -> None:
        """Listen for some seconds."""
        import rclpy

        over = time.monotonic() + seconds
        while time.monotonic() < over:
            rclpy.spin_once(self.node, timeout_sec=0.1)


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Memory, open things and rates over the hours, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hours = [row["hours"] for row in rows]
    figure, (memory, things, frames) = pyplot.subplots(3, 1, sharex=True, figsize=(9, 8))
    memory.plot(hours, [row["resident_mb"] for row in rows])
    memory.set_ylabel("resident memory [MB]")
    memory.set_ylim(0, 1.25 * max(row["resident_mb"] for row in rows))
    for name in ("threads", "files", "shared"):
        things.plot(hours, [row[name] for row in rows], label=name)
    things.legend()
    for name in ("received", "published", "dropped", "lost"):
        frames.plot(hours, [row[name] for row in rows], label=name)
    frames.set_ylabel("frames")
    frames.set_xlabel("hours")
    frames.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def record(
    arguments: argparse.Namespace, node: subprocess.Popen[bytes], file: Path
) -> list[dict[str, float]]:
    """One row per interval from the first masks on, until the time is over, the node has ended, or Ctrl-C."""
    from support.footprint import Footprint

    watch, rows = Watch("/soak/segmentation_node"), []
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        try:
            while not watch.counts[1] and node.poll() is None:
                watch.spin(1.0)
            began = time.monotonic()
            while (hours := (time.monotonic() - began) / 3600) < arguments.hours and node.poll() is None:
                watch.spin(arguments.every)
                row = (round(hours, 4), *Footprint.of(node.pid), *watch.counts)
                writer.writerow(row)
                stream.flush()
                rows.append(dict(zip(COLUMNS, map(float, row))))
        except FileNotFoundError:
            print("the node has ended: what there is is plotted")
        except KeyboardInterrupt:
            print("interrupted: what there is is plotted")
    return rows


def main() -> int:
    """Run, record, plot, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=8.0, help="how long; default 8")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks; default 10")
    parser.add_argument("--rate", type=float, default=30.0, help="images per second; default 30")
    parser.add_argument("--size", default="640x360", help="of the images; default 640x360")
    parser.add_argument("--growth", type=float, default=0.02, help="of memory that is too much; default 0.02")
    parser.add_argument("--out", type=Path, default=Path("output/soak"), help="folder; default output/soak")
    parser.add_argument("parameters", nargs="*", metavar="NAME:=VALUE", help="parameters of the node")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    width, _, height = arguments.size.partition("x")
    camera = [f"width:={width}", f"height:={height}", f"rate_hz:={arguments.rate}"]
    environment = {**os.environ, "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or sys.prefix}
    processes = []
    for module, parameters in (("segmentation_node", arguments.parameters), ("camera_node", camera)):
        named = [part for parameter in parameters for part in ("-p", parameter)]
        command = [sys.executable, "-m", f"rt_segmentation.ros.{module}", "--ros-args", "-r", "__ns:=/soak"]
        # A terminal's Ctrl-C is for this process, which ends them.
        processes.append(subprocess.Popen([*command, *named], env=environment, start_new_session=True))
    try:
        rows = record(arguments, processes[0], arguments.out / "soak.csv")
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        statuses = [process.wait() for process in processes]
    if not rows:
        print("nothing was recorded: the node ended, or was interrupted, before the first masks")
        return 1
    plot(rows, arguments.out / "soak.png")
    first, last = rows[len(rows) // 10], rows[-1]
    growth = last["resident_mb"] / first["resident_mb"] - 1
    # Of a moment: one frame for each lane is at work.
    open_frames = last["received"] - last["published"] - last["dropped"]
    print(
        f"{last['hours']:.2f} h: {last['received']:.0f} frames, {last['published']:.0f} masks,"
        f" {last['dropped']:.0f} dropped, {last['lost']:.0f} lost by DDS; memory"
        f" {first['resident_mb']:.0f} MB to {last['resident_mb']:.0f} MB ({growth:+.1%}), threads"
        f" {first['threads']:.0f} to {last['threads']:.0f}, files {first['files']:.0f} to"
        f" {last['files']:.0f}; exit statuses {statuses}"
    )
    return int(growth > arguments.growth or not 0 <= open_frames <= 8 or any(statuses))


if __name__ == "__main__":
    sys.exit(main())
