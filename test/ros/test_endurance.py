"""The node for a long time: frames at full rate, its states and its models again and again, and no growth."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.footprint import Footprint
from support.models import shuffled
from support.node_under_test import ENGINE, RELIABLE, TORCH, Feeder, NodeUnderTest, stamp

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.ros.messages import image_message

WIDTH, HEIGHT = 160, 120
IN_FLIGHT = 3
"""Images that a camera at full rate has on the way: the node never waits for one."""

COUNTED = (
    "frames received",
    "messages lost by the middleware",
    "masks published",
    "frames dropped",
    "frames dropped: replaced",
)


class Camera:
    """Publishes as fast as the node takes images, and counts what comes back."""

    def __init__(self, node: NodeUnderTest) -> None:
        self._node = node
        ros = node.observer.node
        self._clock = ros.get_clock()
        scene = StreetScene(0, WIDTH, HEIGHT)
        self._images = [image_message(Header(), scene.render(0.2 * n)[0], "rgb8") for n in range(10)]
        self.sent = self.masks = 0
        self._on_the_way: deque[tuple[int, int]] = deque()
        self._first: list[Image] = []
        self._subscription = ros.create_subscription(Image, node.topic("label"), self._receive, RELIABLE)
        feeder = Feeder(node)
        self._publisher = feeder.publisher
        # What comes before the node is active is no frame of its own, and the first mask may be lost on the
        # way back: it is from here on that every frame is accounted for.
        feeder.segment(self._images[0], self._first)
        node.fresh_status()
        self._before = {key: node.count(key) for key in COUNTED}

    def run(self, reached: Any) -> None:
        """Send until it is reached, and wait for the last mask."""
        while not reached():
            if len(self._on_the_way) < IN_FLIGHT:
                image = self._images[self.sent % len(self._images)]
                image.header.stamp = self._clock.now().to_msg()
                self._publisher.publish(image)
                self._on_the_way.append(stamp(image))
                self.sent += 1
            self._node.observer.executor.spin_once(timeout_sec=0.02)
        self._node.spin_until(lambda: not self._on_the_way)

    def _receive(self, label: Image) -> None:
        if not self.sent:
            self._first.append(label)
            return
        # Those before it were replaced, or lost. One that nobody waits for is one too many.
        while self._on_the_way.popleft() != stamp(label):
            pass
        self.masks += 1

    def account(self) -> str:
        """Nothing happened to a frame but what always does; in words."""
        node = self._node
        node.fresh_status()
        received, lost, masks, dropped, replaced = (node.count(key) - self._before[key] for key in COUNTED)
        assert received + lost == self.sent
        assert masks == self.masks == received - replaced
        assert dropped == replaced
        assert "Traceback" not in node.process.output and "[ERROR]" not in node.process.output
        return f"{self.sent} frames, {self.masks} masks, {replaced} replaced, {lost} lost by DDS"


def most(footprints: list[Footprint]) -> Footprint:
    """The most of each kind."""
    return Footprint(*map(max, zip(*footprints, strict=True)))


def no_more(after: Footprint, before: Footprint, share: float, slack_mb: float = 0.0) -> None:
    """Nothing grew but memory, and that by less than a share and some."""
    assert after.resident_mb < before.resident_mb * (1 + share) + slack_mb, (str(before), str(after))
    assert after.threads <= before.threads and after.files <= before.files, (str(before), str(after))
    assert after.shared <= before.shared + 2, (str(before), str(after))


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.long)])
def test_frames_at_full_rate(spawn: Any, observer: Any, small_model: ModelManifest, count: int) -> None:
    model, engine = small_model, ENGINE
    if count > 1000:
        pytest.importorskip("openvino", reason="openvino is not installed")
        model, engine = find_model("enet_town"), {"engine": "openvino", "precision": "int8"}
    node = NodeUnderTest(spawn, observer, "/endures", model, **engine)
    camera = Camera(node)
    camera.run(lambda: camera.sent >= count // 10)
    # The health of images has their usual values after some seconds.
    before = node.footprint()
    camera.run(lambda: camera.sent >= count)
    after = node.footprint()
    print(f"{model.name} at full rate: {camera.account()}; from {before} after {count // 10} to {after}")
    no_more(after, before, 0.02, 0.0 if count > 10_000 else 10.0)
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.long)])
def test_through_all_states_again_and_again(
    spawn: Any, observer: Any, small_model: ModelManifest, count: int
) -> None:
    size: dict[str, Any] = {"input_width": 96, "input_height": 64}
    node = NodeUnderTest(spawn, observer, "/cycles", small_model, **TORCH, **size)
    labels = observer.subscribe(Image, node.topic("label"), RELIABLE)
    feeder, image = (
        Feeder(node),
        image_message(Header(), StreetScene(0, WIDTH, HEIGHT).render(0.0)[0], "rgb8"),
    )
    feeder.segment(image, labels)
    client = observer.node.create_client(ChangeState, f"{node.name}/change_state")
    before = node.footprint()
    for number in range(count):
        for transition in ("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE"):
            request = ChangeState.Request()
            request.transition.id = getattr(Transition, f"TRANSITION_{transition}")
            node.spin_until(client.service_is_ready)
            future = client.call_async(request)
            node.spin_until(future.done)
            assert future.result().success
        if number % 10 == 0:
            feeder.segment(image, labels)
        if number == count // 5:
            before = node.footprint()
    feeder.segment(image, labels)
    after = node.footprint()
    print(f"{count} times through all states: from {before} after {count // 5 + 1} to {after}")
    no_more(after, before, 0.02, 10.0)
    assert "Traceback" not in node.process.output and "[ERROR]" not in node.process.output
    feeder.close()


SHIPPED = ("enet_town", "lednet_town", "linknet_town")


@pytest.mark.long
@pytest.mark.parametrize(("names", "count"), [(SHIPPED, 45), (None, 100)], ids=["shipped", "small"])
def test_switches_of_the_model_at_full_rate(
    spawn: Any,
    observer: Any,
    small_model: ModelManifest,
    tmp_path: Path,
    names: tuple[str, ...] | None,
    count: int,
) -> None:
    models = (
        [find_model(name) for name in names]
        if names is not None
        else [small_model, shuffled(small_model, tmp_path / "other.yaml")]
    )
    node = NodeUnderTest(spawn, observer, "/switches", models[0], **ENGINE, input_width=96, input_height=64)
    camera = Camera(node)
    camera.run(lambda: camera.masks >= 20)
    footprints = []
    for number in range(1, count + 1):
        model = models[number % len(models)]
        assert node.set_parameter("model", str(model.path)).successful
        camera.run(lambda n=number: node.process.output.count("changed to") == n)
        seen = camera.masks
        camera.run(lambda seen=seen: camera.masks >= seen + 10)
        footprints.append(node.footprint())
    # Models differ, and the C library keeps some of what was given back: not more after some rounds.
    fifth = count // 5
    before, after = most(footprints[fifth : 2 * fifth]), most(footprints[-fifth:])
    print(f"{count} switches among {len(models)} models: {camera.account()}; from {before} to {after}")
    no_more(after, before, 0.05, 10.0)
