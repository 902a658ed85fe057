"""A camera that dies, changes or lies about the time, and listeners that hang: what is lost, counted."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from builtin_interfaces.msg import Time  # type: ignore[import-untyped]
from sensor_msgs.msg import Image
from support.node_under_test import CAMERA, RELIABLE, NodeUnderTest, ros_args, stamp
from support.streets import street_scene

from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.environment import transport_environment

WIDTH, HEIGHT = 160, 120
RGB = street_scene(3, WIDTH, HEIGHT).render(0.0)[0]
SECOND = 10**9


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    # One size for the network: nothing is built when the camera's changes.
    size: dict[str, Any] = {"input_width": 96, "input_height": 64}
    # As the launch file starts it: a listener that hangs fills Fast DDS's own segment, and nobody gets more.
    environment = transport_environment()
    node = NodeUnderTest(stage.spawn, stage.observer, "/lens", small_model, environment, **size)
    node.process.wait_for("active:")
    return node


class Lens:
    """A camera in this process that says of each image which it is."""

    def __init__(self, node: NodeUnderTest) -> None:
        self._node = node
        self.publisher = node.observer.node.create_publisher(Image, f"{node.namespace}/image", RELIABLE)
        node.hears(self.publisher)

    def send(self, labels: list[Image], stamp_ns: int, frame_id: str, **fields: Any) -> Image:
        """Publish one image, and return its mask."""
        values = {"width": WIDTH, "height": HEIGHT, "encoding": "rgb8", "step": 3 * WIDTH, **fields}
        if "data" not in values:
            values["data"] = RGB.tobytes()
        image = Image(**values)
        image.header.frame_id = frame_id
        image.header.stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
        before = len(labels)
        self.publisher.publish(image)
        self._node.spin_until(lambda: len(labels) > before)
        return labels[-1]

    def close(self) -> None:
        self._node.observer.node.destroy_publisher(self.publisher)


def accounts(node: NodeUnderTest) -> tuple[int, int, int]:
    """Frames received, masks published and frames dropped, at rest."""
    node.fresh_status()
    keys = ("frames received", "masks published", "frames dropped")
    received, published, dropped = (node.count(key) for key in keys)
    assert received == published + dropped
    return received, published, dropped


@pytest.mark.parametrize("count", [1, pytest.param(50, marks=pytest.mark.long)])
def test_a_camera_that_is_killed_and_comes_back_loses_no_frame_that_came(
    stage: Any, listen: Any, node: NodeUnderTest, count: int
) -> None:
    labels = listen(Image, node.topic("label"))
    settings = {"width": WIDTH, "height": HEIGHT, "rate_hz": 20.0}
    began = accounts(node)
    for number in range(count + 1):
        camera = stage.spawn(CAMERA, *ros_args("/lens", **settings))
        seen = len(labels)
        node.spin_until(lambda seen=seen: len(labels) >= seen + 5)
        camera.kill()
        if number == min(count // 2, 4):
            before = node.footprint()
    received, published, dropped = accounts(node)
    assert node.count("frames dropped: replaced") >= dropped - began[2]
    after = node.footprint()
    assert (after.threads, after.files) <= (before.threads + 2, before.files + 2)
    print(
        f"camera killed {count + 1} times: {received - began[0]} frames came, {published - began[1]} masks,"
        f" {dropped - began[2]} replaced; from {before} to {after}"
    )


def test_size_encoding_and_frame_id_change_from_frame_to_frame(listen: Any, node: NodeUnderTest) -> None:
    labels, lens, now = listen(Image, node.topic("label")), Lens(node), 1_700_000_000 * SECOND
    began = accounts(node)
    sizes, encodings = [(160, 120), (64, 48), (320, 200)], {"rgb8": 3, "mono8": 1, "bgra8": 4, "mono16": 2}
    count = 0
    for (width, height), (encoding, depth) in itertools.product(sizes, encodings.items()):
        count += 1
        data = np.random.RandomState(count).bytes(width * height * depth)
        fields = {"width": width, "height": height, "step": width * depth, "encoding": encoding}
        mask = lens.send(labels, now + count * SECOND // 30, f"frame_{count}", data=data, **fields)
        assert (mask.width, mask.height, mask.header.frame_id) == (width, height, f"frame_{count}")
        assert stamp(mask) == divmod(now + count * SECOND // 30, SECOND)
    received, published, dropped = accounts(node)
    assert (received - began[0], published - began[1], dropped - began[2]) == (count, count, 0)
    lens.close()
    print(f"{count} changes of size, encoding and frame_id: {count} frames, {count} masks")


def test_a_clock_that_jumps_stands_still_or_is_zero_costs_no_mask(listen: Any, node: NodeUnderTest) -> None:
    labels, lens = listen(Image, node.topic("label")), Lens(node)
    began = accounts(node)
    now = node.observer.node.get_clock().now().nanoseconds
    # A bag that starts again, a clock that is set, none, the same twice, and the least and most of a stamp.
    stamps = [now, now + SECOND, now - 3600 * SECOND, now - 3599 * SECOND, now + 86400 * SECOND, now]
    stamps += [now, 0, 0, 1, (2**31 - 1) * SECOND + SECOND - 1, -(2**31) * SECOND, now + SECOND]
    for number, stamp_ns in enumerate(stamps):
        mask = lens.send(labels, stamp_ns, str(number))
        assert (mask.header.frame_id, stamp(mask)) == (str(number), divmod(stamp_ns, SECOND))
    received, published, dropped = accounts(node)
    assert (received - began[0], published - began[1], dropped - began[2]) == (*[len(stamps)] * 2, 0)
    assert "Traceback" not in node.process.output and "[ERROR]" not in node.process.output
    lens.close()
    print(f"{len(stamps)} stamps of clocks that jump: {len(stamps)} frames, {len(stamps)} masks")


# Listens reliably to the node's masks, says so at the first, and takes no more when it is stopped.
LISTENER = """
import sys
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("listener")
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
node.create_subscription(Image, sys.argv[1], lambda _: print("a mask", flush=True), qos)
rclpy.spin(node)
"""


# Fast DDS sometimes delivers nothing more to the other listener, though the node has published.
@pytest.mark.long
@pytest.mark.parametrize("count", [40, 1000])
def test_a_listener_that_hangs_holds_up_no_other(
    stage: Any, listen: Any, node: NodeUnderTest, tmp_path: Path, count: int
) -> None:
    (tmp_path / "listener.py").write_text(LISTENER)
    labels, lens, now = listen(Image, node.topic("label")), Lens(node), 1_800_000_000 * SECOND
    path = os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"]))
    listener = stage.spawn("listener", node.topic("label"), PYTHONPATH=path)
    number = 0
    while "a mask" not in listener.output:
        number += 1
        lens.send(labels, now + number, "")
    listener.send(signal.SIGSTOP)
    before, began = node.footprint(), accounts(node)
    # More than all queues hold: this listener has each of them, and none waits for the one that hangs.
    for _ in range(count):
        number += 1
        assert lens.send(labels, now + number, "").header.stamp.nanosec == number
    received, published, dropped = accounts(node)
    assert (received - began[0], published - began[1], dropped - began[2]) == (count, count, 0)
    after = node.footprint()
    slowest = float(node.values()["publishing max [ms]"])
    listener.send(signal.SIGCONT)
    had = listener.output.count("a mask")
    while listener.output.count("a mask") == had:
        number += 1
        lens.send(labels, now + number, "")
    listener.kill()
    lens.close()
    print(
        f"a listener stopped for {count} frames: {count} masks for the other one, {slowest:.1f} ms to publish"
        f" at most; from {before} to {after}"
    )
