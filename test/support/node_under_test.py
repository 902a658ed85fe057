"""The segmentation node as a process of its own, seen from outside: topics, services, diagnostics, log."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from rt_segmentation.inference.engines import build_engine
from rt_segmentation.inference.segmenter import Segmentation, Segmenter
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.messages import to_frame
from support.footprint import Footprint

NODE = "rt_segmentation.ros.segmentation_node"
CAMERA = "rt_segmentation.ros.camera_node"
# On the engine that is there everywhere, and exact.
TORCH: dict[str, Any] = {"engine": "torch", "precision": "fp32"}
# What is tested is the node: on one that its process does not need PyTorch for, whose import takes seconds.
ENGINE = {"engine": "onnxruntime", "precision": "fp32"} if find_spec("onnxruntime") else TORCH
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# As in conftest.py.
PATIENCE_S = 90.0


def fill_cache(model: ModelManifest, *sizes: tuple[int, int]) -> None:
    """Build a model's engine for sizes (width, height) [px] in this process, which has imported PyTorch.

    For want of it in the cache a node starts another process, which imports PyTorch as well.
    """
    engine = build_engine(model, **ENGINE)
    for width, height in sizes:
        engine.prepare(1, height, width)


def ros_args(namespace: str, **parameters: Any) -> list[str]:
    overrides = [["-p", f"{name}:={value}"] for name, value in parameters.items()]
    return ["--ros-args", "-r", f"__ns:={namespace}", *(part for pair in overrides for part in pair)]


def set_parameter(observer: Any, node: str, name: str, value: Any) -> SetParametersResult:
    """Ask a node's parameter service, the node by its full name."""
    message = ParameterMessage(name=name, value=Parameter(name, value=value).get_parameter_value())
    request = SetParameters.Request(parameters=[message])
    result: SetParametersResult = observer.call(SetParameters, f"{node}/set_parameters", request).results[0]
    return result


def stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def pixels(message: Image) -> np.ndarray:
    array = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return array if message.encoding == "mono8" else array.reshape(message.height, message.width, 3)


def offline(segmenter: Segmenter, message: Image | CompressedImage) -> Segmentation:
    """What the segmenter makes of a camera's message without a node."""
    (result,) = segmenter.segment([to_frame(message)], confidence=True)
    return result


class NodeUnderTest:
    """A node in a namespace of its own.

    Args:
        spawn, observer: of a stage, or the fixtures.
        namespace: for all its topics.
        model: the manifest it runs.
        environment: added to the process's own.
        module: that is run as the node.
        parameters: of the node.
    """

    def __init__(
        self,
        spawn: Any,
        observer: Any,
        namespace: str,
        model: ModelManifest,
        environment: dict[str, str] | None = None,
        module: str = NODE,
        **parameters: Any,
    ) -> None:
        self.observer, self.namespace = observer, namespace
        self.name = f"{namespace}/segmentation_node"
        self._reports: list[DiagnosticArray] = observer.subscribe(DiagnosticArray, "/diagnostics", RELIABLE)
        arguments = ros_args(namespace, model=model.path, **{**ENGINE, **parameters})
        self.process = spawn(module, *arguments, **(environment or {}))

    def topic(self, name: str) -> str:
        """The full name of an output."""
        return f"{self.name}/{name}"

    def spin_until(self, reached: Any) -> None:
        """Spin the observer until `reached()`; says what the node said when it never is."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not reached in {PATIENCE_S} s; last values {self.values()}\n{self.process.output}"
                )
            self.observer.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, duration_s: float) -> None:
        """Spin the observer for some seconds."""
        over = time.monotonic() + duration_s
        while time.monotonic() < over:
            self.observer.executor.spin_once(timeout_sec=0.05)

    @property
    def statuses(self) -> list[DiagnosticStatus]:
        """All that this node has published on /diagnostics."""
        name = f"{self.name}: segmentation"
        return [status for report in self._reports for status in report.status if status.name == name]

    def values(self) -> dict[str, str]:
        """The key-value pairs of the last status, empty before the first."""
        statuses = self.statuses
        return {pair.key: pair.value for pair in statuses[-1].values} if statuses else {}

    def history(self, key: str) -> list[str]:
        """A value of all statuses that have it."""
        return [pair.value for status in self.statuses for pair in status.values if pair.key == key]

    def count(self, key: str) -> int:
        """A number of the last status; 0 where it has not come up yet."""
        return int(self.values().get(key, 0))

    def fresh_status(self) -> DiagnosticStatus:
        """The next status that is wholly about the time after this call."""
        before = len(self.statuses)
        self.spin_until(lambda: len(self.statuses) >= before + 2)
        return self.statuses[-1]

    def footprint(self) -> Footprint:
        """What its process holds of the machine now."""
        return Footprint.of(self.process.pid)

    def hears(self, publisher: Publisher[Any]) -> None:
        """Wait until it is active, and subscribes to what the publisher sends.

        While it is configured it may subscribe for a while, to learn how large the images are; of those that
        come then it keeps the newest.
        """

        def matched() -> bool:
            return publisher.get_subscription_count() > 0

        self.spin_until(lambda: "active: " in self.process.output)
        self.spin_until(matched)
        # It may be a subscription that is gone, and a match is known here before it is there.
        self.spin_for(0.5)
        self.spin_until(matched)

    def rests(self) -> bool:
        """Whether no frame came between the last two statuses, and all before have met their ends."""
        counts = []
        for status in self.statuses[-2:]:
            values = {pair.key: pair.value for pair in status.values}
            keys = ("frames received", "masks published", "frames dropped")
            received, published, dropped = (int(values.get(key, 0)) for key in keys)
            counts.append((received, received - published - dropped))
        return len(counts) == 2 and counts[0] == counts[1] and counts[1][1] == 0

    def listens(self) -> bool:
        """Whether it subscribes to the camera's raw images."""
        infos = self.observer.node.get_subscriptions_info_by_topic(f"{self.namespace}/image")
        return any(info.node_name == "segmentation_node" for info in infos)

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        """Ask the node's parameter service."""
        return set_parameter(self.observer, self.name, name, value)

    def get_parameter(self, name: str) -> Any:
        """A parameter as its service says."""
        request = GetParameters.Request(names=[name])
        (value,) = self.observer.call(GetParameters, f"{self.name}/get_parameters", request).values
        return parameter_value_to_python(value)

    def change_state(self, transition: int) -> bool:
        """Ask for a lifecycle transition; returns whether it succeeded."""
        request = ChangeState.Request()
        request.transition.id = transition
        response = self.observer.call(ChangeState, f"{self.name}/change_state", request)
        if response.success and transition == Transition.TRANSITION_DEACTIVATE:
            # A camera is not to take its subscription of before for one that comes later.
            self.spin_until(lambda: not self.listens())
        return bool(response.success)

    def state(self) -> str:
        """The lifecycle state by name."""
        response = self.observer.call(GetState, f"{self.name}/get_state", GetState.Request())
        return str(response.current_state.label)


class Feeder:
    """Publishes single images to a node, as its camera.

    Attributes:
        publisher: of the images.
        repeated: images that `segment` had to send once more; each may have become one more mask.
    """

    def __init__(self, node: NodeUnderTest, message_type: Any = Image) -> None:
        self._node = node
        self.repeated = 0
        topic = f"{node.namespace}/image" + ("/compressed" if message_type is CompressedImage else "")
        self.publisher: Publisher[Any] = node.observer.node.create_publisher(message_type, topic, RELIABLE)
        self._number = 0

    def header(self) -> Header:
        """A header with a stamp of now and a frame_id that says which of the images it is."""
        self._number += 1
        now = self._node.observer.node.get_clock().now().to_msg()
        return Header(stamp=now, frame_id=f"lens_{self._number}")

    def publish(self, message: Any) -> None:
        """Publish under a new header, once the node listens."""
        if not self.publisher.get_subscription_count() or not self._number:
            self._node.hears(self.publisher)
        message.header = self.header()
        self.publisher.publish(message)

    def segment(self, message: Any, labels: list[Image]) -> np.ndarray:
        """Publish, and wait until the mask is among the labels; nothing is dropped, however slow the node is.

        What was lost on the way is sent once more: when the node has nothing to do, and the mask is not here.

        Returns:
            The mask, uint8 (H, W).
        """
        self.publish(message)
        said = len(self._node.statuses)

        def answered() -> bool:
            nonlocal said
            if labels and labels[-1].header == message.header:
                return True
            # The first status may be older than the message.
            if len(self._node.statuses) >= said + 3 and self._node.rests():
                said = len(self._node.statuses)
                self.repeated += 1
                self.publisher.publish(message)
            return False

        self._node.spin_until(answered)
        return pixels(labels[-1])

    def close(self) -> None:
        """The camera goes."""
        self._node.observer.node.destroy_publisher(self.publisher)
