"""A subscription that follows its publishers' QoS and is there when it is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile

from rt_segmentation.ros.graph import FIRST_QOS, qos_for, why_silent
from rt_segmentation.ros.topics import INPUT_DEPTH


def take(subscription: Any, message_type: Any) -> tuple[Any, Any] | None:
    """A message that has come and that no executor has handed over yet, with its info; None without one.

    For callbacks that take long, which keep the executor from handing over.
    """
    if subscription is None:
        return None
    handle = subscription.handle
    # Its own `__enter__` gives nothing.
    with handle:
        taken: tuple[Any, Any] | None = handle.take_message(message_type, False)
    return taken


class TopicInput:
    """Subscribes to one topic.

    Args:
        node: the subscription's owner.
        name: the topic, as it can be remapped.
        message_type: of its messages.
        on_message: called with each.
    """

    def __init__(self, node: Node, name: str, message_type: Any, on_message: Callable[[Any], None]) -> None:
        self._node, self.name, self._type, self._on_message = node, name, message_type, on_message
        self._subscription: Any = None
        self._qos = FIRST_QOS
        self._last_s: float | None = None
        self._subscribed_at = 0.0

    @property
    def topic(self) -> str:
        """Its full name."""
        return self._node.resolve_topic_name(self.name)

    @property
    def has_publisher(self) -> bool:
        """Whether anybody publishes it."""
        return self._node.count_publishers(self.topic) > 0

    def update(self, wanted: bool) -> None:
        """Subscribe, subscribe anew, or stop, as is needed now; cheap where nothing changed."""
        if not wanted:
            self.close()
            return
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        qos = qos_for(publishers) if publishers else self._qos
        if self._subscription is not None and qos == self._qos:
            return
        if self._subscription is None:
            self._subscribed_at, self._last_s = time.monotonic(), None
        else:
            self._node.destroy_subscription(self._subscription)
        self._qos = qos
        profile = QoSProfile(depth=INPUT_DEPTH, reliability=qos[0], durability=qos[1])
        self._subscription = self._node.create_subscription(self._type, self.name, self._receive, profile)

    def trouble(self, stale_after_s: float) -> str:
        """Why nothing comes, in a sentence; empty while something does, or could not yet have come.

        Args:
            stale_after_s: nothing for so long is a trouble [s].
        """
        if self._subscription is None:
            return ""
        since_s = time.monotonic() - (self._last_s or self._subscribed_at)
        if since_s <= stale_after_s:
            return ""
        why = self.why_silent()
        if self._last_s is None:
            return f"nothing has come on {self.topic} yet: {why}"
        return f"nothing on {self.topic} for {since_s:.1f} s: {why}"

    @property
    def subscribed_s(self) -> float:
        """For how long there has been a subscription [s]; 0 without one."""
        return 0.0 if self._subscription is None else time.monotonic() - self._subscribed_at

    def why_silent(self) -> str:
        """What the graph says about a topic on which nothing comes."""
        package, message = self._type.__module__.split(".")[0], self._type.__name__
        return why_silent(self._node, self.topic, f"{package}/msg/{message}")

    def close(self) -> None:
        """Stop."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _receive(self, message: Any) -> None:
        self._last_s = time.monotonic()
        self._on_message(message)
