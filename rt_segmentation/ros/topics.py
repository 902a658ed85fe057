"""The nodes' topics as data: publishers, documentation and security policy are made from one table.

rclpy is only touched where a topic is made: the documentation can be made where ROS is not installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher
    from rclpy.qos import QoSProfile

INPUT_DEPTH = 5
"""The callback only hands a message over, so a few places bridge the moments in which the executor is busy
with a parameter call; the slot behind the callback is the queue of one."""


@dataclass(frozen=True)
class Qos:
    """Quality of service of a publisher; reliable, which serves best-effort subscribers as well.

    Attributes:
        depth: messages kept for a slow subscriber.
        latched: whether the last one is kept for subscribers that come later (transient local).
    """

    depth: int
    latched: bool = False

    def __str__(self) -> str:
        return f"reliable, {'latched, ' if self.latched else ''}depth {self.depth}"

    def profile(self) -> QoSProfile:
        """As rclpy has it."""
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        durability = DurabilityPolicy.TRANSIENT_LOCAL if self.latched else DurabilityPolicy.VOLATILE
        return QoSProfile(depth=self.depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


EACH_FRAME = Qos(5)
LATCHED = Qos(1, latched=True)


@dataclass(frozen=True)
class Topic:
    """One topic of a node.

    Attributes:
        name: as in the code: relative, private with ``~/``, or absolute; all can be remapped.
        type: as ``ros2 topic list -t`` shows it.
        qos: what it is published with, or in words.
        when: it is published, or subscribed to.
        text: one sentence that says what is on it.
        encoding: of an image's pixels, or ``png`` or ``jpeg``.
        is_input: whether the node subscribes to it.
    """

    name: str
    type: str
    qos: Qos | str
    when: str
    text: str
    encoding: str = ""
    is_input: bool = False

    @property
    def key(self) -> str:
        """The name without the node's before it."""
        return self.name.removeprefix("~/")

    def of(self, camera: str) -> Topic:
        """The same topic of one of several cameras, whose name stands before its own.

        Args:
            camera: its name; empty for the only one.
        """
        if not camera or self.name.startswith("/"):
            return self
        name = f"~/{camera}/{self.key}" if self.name.startswith("~/") else f"{camera}/{self.name}"
        return replace(self, name=name)

    def message_type(self) -> Any:
        """The class of its messages.

        Raises:
            ImportError: the package of messages is not installed.
        """
        package, _, name = self.type.split("/")
        return getattr(importlib.import_module(f"{package}.msg"), name)


IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
_AS_CAMERA = f"as the publisher's, depth {INPUT_DEPTH}"
_LISTENED = "each frame, while somebody subscribes"

LABEL = Topic("~/label", IMAGE, EACH_FRAME, _LISTENED, "A class id a pixel, 255 is unlabelled.", "mono8")
FRAME_OUTPUTS = (
    LABEL,
    Topic("~/confidence", IMAGE, EACH_FRAME, _LISTENED, "The top class's probability x 255.", "mono8"),
    Topic("~/color", IMAGE, EACH_FRAME, _LISTENED, "The labels in their classes' colours.", "rgb8"),
    Topic("~/overlay", IMAGE, EACH_FRAME, _LISTENED, "The colours over the camera's image.", "rgb8"),
    Topic("~/label/compressed", COMPRESSED, EACH_FRAME, _LISTENED, "The labels, lossless.", "png"),
    Topic("~/color/compressed", COMPRESSED, EACH_FRAME, _LISTENED, "The colours.", "jpeg"),
    Topic("~/overlay/compressed", COMPRESSED, EACH_FRAME, _LISTENED, "The overlay.", "jpeg"),
    Topic(
        "~/drift",
        "std_msgs/msg/Float64",
        EACH_FRAME,
        "each frame, while somebody subscribes and the model has a profile",
        "How far the masks are from what the model gives on its validation frames, in standard deviations.",
    ),
    Topic(
        "~/camera_info",
        CAMERA_INFO,
        EACH_FRAME,
        "each frame, while somebody subscribes and a calibration has come",
        "The calibration of the masks: the camera's, scaled, and cut where they show a region alone.",
    ),
    Topic(
        "~/latency_ms",
        "std_msgs/msg/Float64",
        EACH_FRAME,
        "each frame whose stamp is of the node's clock, while somebody subscribes",
        "From the stamp to the end of publishing.",
    ),
)
LABEL_INFO = Topic(
    "~/label_info",
    "vision_msgs/msg/LabelInfo",
    LATCHED,
    "once the model is loaded, where vision_msgs is installed",
    "The names of the classes.",
)
LEGEND = Topic(
    "~/legend",
    IMAGE,
    LATCHED,
    "once the model is loaded, and when its classes change",
    "A picture of the classes: colour, id and name.",
    "rgb8",
)
DIAGNOSTICS = Topic(
    "/diagnostics",
    "diagnostic_msgs/msg/DiagnosticArray",
    EACH_FRAME,
    "once per second",
    "Rates, latencies by stage, every drop by reason, the engine in use; health of images and masks.",
)
SEGMENTATION = (
    Topic(
        "image",
        IMAGE,
        _AS_CAMERA,
        "while somebody subscribes to the results, with `image_transport: raw`",
        "The camera's images.",
        is_input=True,
    ),
    Topic(
        "image/compressed",
        COMPRESSED,
        _AS_CAMERA,
        "while somebody subscribes to the results, with `image_transport: compressed`",
        "The camera's images; a remap of `image` moves this one.",
        is_input=True,
    ),
    Topic(
        "camera_info",
        CAMERA_INFO,
        _AS_CAMERA,
        "while somebody subscribes to `~/camera_info`",
        "The camera's calibration.",
        is_input=True,
    ),
    *FRAME_OUTPUTS,
    LABEL_INFO,
    LEGEND,
    DIAGNOSTICS,
)
_SET = "by `reliability` and `queue_depth`"
CAMERA = (
    Topic("image", IMAGE, _SET, "each frame, with `image_transport: raw`", "The images."),
    Topic(
        "image/compressed",
        COMPRESSED,
        _SET,
        "each frame, with `image_transport: compressed`",
        "The images; a remap of `image` moves this one.",
        "jpeg",
    ),
    Topic("camera_info", CAMERA_INFO, _SET, "each frame", "The calibration of the images."),
    Topic("label", IMAGE, _SET, "each frame, where the source has labels", "The true labels.", "mono8"),
    Topic("depth", IMAGE, _SET, "each frame of the street, while somebody subscribes", "Depth [m].", "32FC1"),
    Topic(
        "/tf_static",
        "tf2_msgs/msg/TFMessage",
        LATCHED,
        "once, for the street, where tf2_msgs is installed",
        "Where the camera is over `base_frame_id`.",
    ),
)
CLOUD_POINTS = Topic(
    "~/points",
    "sensor_msgs/msg/PointCloud2",
    EACH_FRAME,
    "each mask with its depth image or cloud, while somebody subscribes",
    "The points with x, y, z [m], rgb, label and confidence.",
)
_WITH_POINTS = "while ~/points has a subscriber, as reliable as the publisher"
CLOUD = (
    Topic("label", IMAGE, _AS_CAMERA, _WITH_POINTS, "The mask.", "mono8", is_input=True),
    Topic("confidence", IMAGE, _AS_CAMERA, _WITH_POINTS, "Its confidence.", "mono8", is_input=True),
    Topic("color", IMAGE, _AS_CAMERA, _WITH_POINTS, "The points' colours.", "rgb8", is_input=True),
    Topic(
        "depth",
        IMAGE,
        _AS_CAMERA,
        f"with `geometry: depth`, {_WITH_POINTS}",
        "Depth, registered to the camera.",
        "16UC1 in mm or 32FC1 in m",
        is_input=True,
    ),
    Topic(
        "points",
        "sensor_msgs/msg/PointCloud2",
        _AS_CAMERA,
        f"with `geometry: points`, {_WITH_POINTS}",
        "A camera's or a lidar's points.",
        is_input=True,
    ),
    Topic("camera_info", CAMERA_INFO, _AS_CAMERA, _WITH_POINTS, "The mask's calibration.", is_input=True),
    Topic(
        "label_info",
        "vision_msgs/msg/LabelInfo",
        _AS_CAMERA,
        f"where keep_classes or drop_classes have names, {_WITH_POINTS}",
        "The names of the mask's classes.",
        is_input=True,
    ),
    Topic(
        "/tf",
        "tf2_msgs/msg/TFMessage",
        "reliable",
        "with `geometry: points` without `sensor_to_camera`",
        "Moving frames.",
        is_input=True,
    ),
    Topic(
        "/tf_static",
        "tf2_msgs/msg/TFMessage",
        "reliable, latched",
        "with `geometry: points` without `sensor_to_camera`",
        "Fixed frames.",
        is_input=True,
    ),
    CLOUD_POINTS,
    DIAGNOSTICS,
)
GROUND_GRID = Topic(
    "~/grid",
    "nav_msgs/msg/OccupancyGrid",
    EACH_FRAME,
    "each mask, while somebody subscribes, where nav_msgs is installed",
    "Cells of the ground plane: free, occupied, unknown.",
)
GROUND_SCAN = Topic(
    "~/scan",
    "sensor_msgs/msg/LaserScan",
    EACH_FRAME,
    "each mask, while somebody subscribes",
    "How far each direction is ground [m], from the point under the camera.",
)
SCAN_FRAME = Topic(
    "/tf",
    "tf2_msgs/msg/TFMessage",
    EACH_FRAME,
    "each scan, where tf2_msgs is installed",
    "The scan's frame: the point under the camera.",
)
_WITH_GROUND = "while ~/grid or ~/scan has a subscriber, as reliable as the publisher"
GROUND = (
    Topic("label", IMAGE, _AS_CAMERA, _WITH_GROUND, "The mask.", "mono8", is_input=True),
    Topic("camera_info", CAMERA_INFO, _AS_CAMERA, _WITH_GROUND, "The mask's calibration.", is_input=True),
    Topic(
        "label_info",
        "vision_msgs/msg/LabelInfo",
        _AS_CAMERA,
        f"where ground_classes are names, {_WITH_GROUND}",
        "The names of the mask's classes.",
        is_input=True,
    ),
    *(
        Topic(
            name,
            "tf2_msgs/msg/TFMessage",
            quality,
            "without `camera_in_ground`",
            f"{what} frames.",
            is_input=True,
        )
        for name, quality, what in (
            ("/tf", "reliable", "Moving"),
            ("/tf_static", "reliable, latched", "Fixed"),
        )
    ),
    GROUND_GRID,
    GROUND_SCAN,
    SCAN_FRAME,
    DIAGNOSTICS,
)
TOPICS: dict[str, tuple[Topic, ...]] = {
    "segmentation_node": SEGMENTATION,
    "camera_node": CAMERA,
    "semantic_cloud_node": CLOUD,
    "ground_grid_node": GROUND,
}
"""By node."""


def topics_of(cameras: Sequence[str]) -> dict[str, tuple[Topic, ...]]:
    """All topics by node.

    Args:
        cameras: the segmentation node's; a single empty name where it has one, as in `TOPICS`.
    """
    # What is of no camera is there once.
    several = tuple(dict.fromkeys(topic.of(camera) for camera in cameras for topic in SEGMENTATION))
    return {**TOPICS, "segmentation_node": several}


def publisher(node: Node, topic: Topic) -> Publisher[Any]:
    """Make a topic's publisher.

    Raises:
        ImportError: the package of its messages is not installed.
    """
    assert isinstance(topic.qos, Qos)
    return node.create_publisher(topic.message_type(), topic.name, topic.qos.profile())


def to_markdown(topics: tuple[Topic, ...]) -> str:
    """Return a table of the topics for the documentation."""
    rows = ["| topic | type | quality of service | when | meaning |", "|---|---|---|---|---|"]
    for topic in topics:
        kind = f"`{topic.type.replace('/msg/', '/')}`" + (f", {topic.encoding}" if topic.encoding else "")
        direction = "in" if topic.is_input else "out"
        rows.append(f"| `{topic.name}` ({direction}) | {kind} | {topic.qos} | {topic.when} | {topic.text} |")
    return "\n".join(rows) + "\n"
