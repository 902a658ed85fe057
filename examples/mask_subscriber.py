"""Use the node's masks in a node of your own: says how much of the view is road.

Start `ros2 launch rt_segmentation seg.launch.py` first, then `python examples/mask_subscriber.py`.
"""

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

import rt_segmentation as rt

ROAD = rt.load_label_set("camvid11").names.index("Road")


class RoadShare(Node):
    """Subscribes to the label images: mono8, a class id per pixel, 255 where nothing is known."""

    def __init__(self) -> None:
        super().__init__("road_share")
        self.create_subscription(Image, "segmentation_node/label", self.on_labels, 1)

    def on_labels(self, message: Image) -> None:
        """Log the share of the road; the mask's stamp is that of the camera's image."""
        labels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        self.get_logger().info(f"road: {(labels[:, : message.width] == ROAD).mean():.0%}")


if __name__ == "__main__":
    rclpy.init()
    rclpy.spin(RoadShare())
