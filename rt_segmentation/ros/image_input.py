"""The subscriptions to a camera: there when they are wanted, with the camera's QoS, counting what is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rt_segmentation.ros.graph import COMPRESSED_IMAGE, FIRST_QOS, IMAGE, qos_for, why_silent
from rt_segmentation.ros.reader import ReadElsewhere, Reader
from rt_segmentation.ros.topic_input import TopicInput, take
from rt_segmentation.ros.topics import INPUT_DEPTH

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

ImageMessage: TypeAlias = "Image | CompressedImage"


class ImageInput:
    """Subscribes to `image` or `image/compressed`.

    Args:
        node: the subscription's owner.
        on_image: called with each message, on a thread of its own.
        on_lost: called with the number of messages that the camera sent and that never came: gaps in the
            middleware's sequence numbers, or, before the first number and on Humble, its own count.
        name: of the topic, before a remap.

    Attributes:
        is_kept: whether the last image was published before the subscription was there, and kept for it
            (transient local): its age tells nothing about the node. False on Humble, which does not say.
    """

    def __init__(
        self,
        node: Node,
        on_image: Callable[[ImageMessage], None],
        on_lost: Callable[[int], None],
        name: str = "image",
    ) -> None:
        self._node, self._on_image, self._on_lost = node, on_image, on_lost
        self._name = name
        self.is_kept = False
        self._subscription: Any = None
        self._reader: Reader | None = None
        self._message_type: type[ImageMessage] = Image
        self._state: tuple[str, ReliabilityPolicy, DurabilityPolicy] | None = None
        self._publishers = 0
        self._subscribed_at = 0.0
        self._subscribed_ns = 0
        self._last_sequence: dict[bytes, int] = {}

    @property
    def topic(self) -> str:
        """The topic that is, or was last, subscribed to; empty before the first time."""
        return "" if self._state is None else self._state[0]

    @property
    def subscribed_s(self) -> float:
        """For how long the subscription has been there [s]; 0 without one."""
        return 0.0 if self._subscription is None else time.monotonic() - self._subscribed_at

    def why_silent(self) -> str:
        """What the graph says about a topic on which nothing comes."""
        compressed = self._message_type is CompressedImage
        return why_silent(self._node, self.topic, COMPRESSED_IMAGE if compressed else IMAGE)

    def update(self, wanted: bool, transport: str) -> None:
        """Subscribe, subscribe anew, or stop, as is needed now; cheap where nothing changed.

        Args:
            wanted: whether anybody listens to the results.
            transport: 'raw' or 'compressed'.
        """
        if not wanted:
            self.close()
            return
        # The compressed name is made from the resolved one, so that one remap moves both.
        topic = self._node.resolve_topic_name(self._name)
        if transport == "compressed":
            topic += "/compressed"
        state = (topic, *self._qos(topic))
        if self._subscription is not None and state == self._state:
            return
        # Another QoS for the same camera: what it sends between the two subscriptions is lost.
        known = {gid: last for gid, last in self._last_sequence.items() if gid}
        same = self._subscription is not None and self._state is not None and topic == self._state[0]
        self.close()
        if same:
            self._last_sequence = known
        self._state, self._subscribed_at = state, time.monotonic()
        # The middleware's stamps are of the system's clock, whatever the node's is.
        self._subscribed_ns = time.time_ns()
        qos = QoSProfile(depth=INPUT_DEPTH, reliability=state[1], durability=state[2])
        self._message_type = CompressedImage if transport == "compressed" else Image
        self._subscription = self._node.create_subscription(
            self._message_type,
            topic,
            lambda _: None,
            qos,
            callback_group=ReadElsewhere(),
            event_callbacks=SubscriptionEventCallbacks(message_lost=self._count_lost),
        )
        self._reader = Reader(self._node, self._subscription, self._receive)

    @property
    def has_publisher(self) -> bool:
        """Whether anybody published the topic at the last `update`."""
        return self._publishers > 0

    def close(self) -> None:
        """Stop; what comes after the next subscription is not counted as lost before."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        self._last_sequence.clear()

    def _qos(self, topic: str) -> tuple[ReliabilityPolicy, DurabilityPolicy]:
        publishers = self._node.get_publishers_info_by_topic(topic)
        self._publishers = len(publishers)
        if not publishers and self._state is not None:
            # What a camera sent before it went may still wait to be read.
            return self._state[1:]
        return qos_for(publishers) if publishers else FIRST_QOS

    def _count_lost(self, event: Any) -> None:
        if not self._last_sequence:
            self._on_lost(event.total_count_change)

    def _see_age(self, info: Any) -> None:
        latched = self._state is not None and self._state[2] == DurabilityPolicy.TRANSIENT_LOCAL
        self.is_kept = latched and 0 < info.get("source_timestamp", 0) < self._subscribed_ns

    def _receive(self, message: ImageMessage, info: Any) -> None:
        self._see_age(info)
        sequence = info.get("publication_sequence_number")
        gid = info.get("publisher_gid")
        # Without its name a publisher's numbers can be told from another's only if there is no other.
        if sequence is not None and (gid is not None or self._publishers == 1):
            publisher = bytes(gid["data"]) if gid is not None else b""
            last = self._last_sequence.get(publisher)
            self._last_sequence[publisher] = sequence
            if last is not None and sequence > last + 1:
                self._on_lost(sequence - last - 1)
        self._on_image(message)


class InfoInput(TopicInput):
    """Subscribes to `camera_info`.

    Args:
        node: the subscription's owner.
        on_info: called with each message.
        name: of the topic, before a remap.
    """

    def __init__(self, node: Node, on_info: Callable[[CameraInfo], None], name: str = "camera_info") -> None:
        super().__init__(node, name, CameraInfo, on_info)

    def take(self) -> None:
        """Hand over what has come, inside a callback that keeps the executor from doing so."""
        taken = take(self._subscription, CameraInfo)
        if taken is not None:
            self._receive(taken[0])
