"""What one would put together in an afternoon: the yardstick that the segmentation node is measured against.

Eager PyTorch in float32, inference in the callback, messages converted by copies, as tutorials show it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from rclpy.node import Node
from sensor_msgs.msg import Image

from rt_segmentation.inference.network import load_network
from rt_segmentation.models import find_model
from rt_segmentation.ros.declaring import declare, values
from rt_segmentation.ros.parameters import Parameter
from rt_segmentation.ros.process import run_node

NODE_NAME = "plain_node"
PARAMETERS = (
    Parameter("model", "enet", "Model to run.", read_only=True),
    Parameter("width", 640, "Width of the network's input.", "px", minimum=32, read_only=True),
    Parameter("height", 384, "Height of the network's input.", "px", minimum=32, read_only=True),
)


class PlainNode(Node):
    """Subscribes to `~/image`, publishes `~/label` at the image's size."""

    failed = False

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        declare(self, PARAMETERS)
        settings = values(self, PARAMETERS)
        self.finished = False
        self._size = (settings["width"], settings["height"])
        self._network = load_network(find_model(settings["model"]))
        self._publisher = self.create_publisher(Image, "~/label", 10)
        # Of one: a longer queue is only more latency.
        self.create_subscription(Image, "~/image", self._segment, 1)

    def start(self) -> None:
        """Nothing more."""

    def close(self) -> bool:
        """Nothing to stop."""
        return True

    def _segment(self, message: Image) -> None:
        image = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.width, 3)
        resized = cv2.resize(image, self._size)
        pixels = torch.from_numpy(resized.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0).contiguous()
        with torch.inference_mode():
            labels = self._network(pixels).argmax(1)[0].numpy().astype(np.uint8)
        labels = cv2.resize(labels, (message.width, message.height), interpolation=cv2.INTER_NEAREST)
        answer = Image(header=message.header, encoding="mono8", height=message.height, width=message.width)
        answer.step = message.width
        answer.data = labels.tobytes()
        self._publisher.publish(answer)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `run_node` for the exit status."""
    return run_node(NODE_NAME, lambda _: PlainNode(), argv)


if __name__ == "__main__":
    sys.exit(main())
