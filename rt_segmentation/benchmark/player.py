"""A camera that costs nearly nothing: frames rendered beforehand, at a rate, as ros2_benchmark does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.parameters import Parameter
from rt_segmentation.ros.process import run_node

NODE_NAME = "benchmark_player"
RENDERED_FRAMES = 8
SETTLE_S, LOOK_S, END_S = 1.0, 0.05, 1.0
PARAMETERS = (
    Parameter("topics", ["image"], "Where to publish, in turns: one for each camera.", read_only=True),
    Parameter("width", 640, "Width of the frames.", "px", minimum=32, maximum=7680, read_only=True),
    Parameter("height", 360, "Height of the frames.", "px", minimum=32, maximum=7680, read_only=True),
    Parameter(
        "rate_hz",
        30.0,
        "Frames per second of each camera.",
        "Hz",
        minimum=0.1,
        maximum=1000.0,
        read_only=True,
    ),
    Parameter("count", 100, "Frames to publish for each camera.", minimum=1, read_only=True),
)


class Player(Node):
    """Publishes images, reliably, as soon as each topic has a listener; ends after `count` frames of each.

    On a thread of its own, as an executor's timer takes more of the processor than the image.
    """

    failed = False

    def __init__(self) -> None:
        super().__init__(NODE_NAME, start_parameter_services=False, enable_rosout=False)
        refuse_unknown(self, PARAMETERS)
        declare(self, PARAMETERS)
        settings = values(self, PARAMETERS)
        scene = StreetScene(0, settings["width"], settings["height"])
        self._messages = [
            image_message(Header(frame_id="camera"), scene.render(i * 0.5)[0], "rgb8")
            for i in range(RENDERED_FRAMES)
        ]
        self._count = settings["count"] * len(settings["topics"])
        self._published = 0
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers = [self.create_publisher(Image, topic, qos) for topic in settings["topics"]]
        self._period_s = 1.0 / settings["rate_hz"] / len(self._publishers)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, name="playing", daemon=True)

    @property
    def finished(self) -> bool:
        """Whether all frames are published."""
        return bool(self._published >= self._count)

    def start(self) -> None:
        """Publish from now on."""
        self._thread.start()

    def close(self) -> bool:
        """Say how many frames were published."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(END_S)
        print(f"published {self._published} frames", flush=True)
        return not self._thread.is_alive()

    def _play(self) -> None:
        while not all(each.get_subscription_count() for each in self._publishers):
            if self._stopping.wait(LOOK_S):
                return
        due = time.monotonic() + SETTLE_S
        while not self.finished and not self._stopping.wait(max(0.0, due - time.monotonic())):
            turn, number = divmod(self._published, len(self._publishers))
            message = self._messages[turn % RENDERED_FRAMES]
            message.header.stamp = self.get_clock().now().to_msg()
            self._publishers[number].publish(message)
            self._published += 1
            # A camera makes nothing up.
            due = max(due + self._period_s, time.monotonic())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `run_node` for the exit status."""
    return run_node(NODE_NAME, lambda _: Player(), argv)


if __name__ == "__main__":
    sys.exit(main())
