"""Nodes in an executor of somebody else, whose threads may be at work on one while another destroys it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from rclpy.node import Node

from rt_segmentation.ros.middleware import InvalidHandle


class GuardedNode(Node):
    """A node whose callbacks may be at work when another thread destroys it: no error of theirs then.

    It would end the executor for all its nodes, or be printed by its threads as never retrieved.
    """

    # Set before anything of the node is taken away.
    _closed = False

    def destroy_node(self) -> None:
        """Take the node out of the middleware."""
        self._closed = True
        super().destroy_node()

    def create_timer(self, timer_period_sec: float, callback: Any, *rest: Any, **options: Any) -> Any:
        """As rclpy's."""
        return super().create_timer(timer_period_sec, self.until_destroyed(callback), *rest, **options)

    def create_guard_condition(self, callback: Any, *rest: Any, **options: Any) -> Any:
        """As rclpy's."""
        return super().create_guard_condition(self.until_destroyed(callback), *rest, **options)

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, *rest: Any, **options: Any
    ) -> Any:
        """As rclpy's, which looks at the callback's signature for what it takes."""
        return super().create_subscription(msg_type, topic, self.until_destroyed(callback), *rest, **options)

    def until_destroyed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, without an error where the node is destroyed meanwhile."""

        @wraps(work)
        def call(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            except InvalidHandle:
                if not self._closed:
                    raise
                return None

        return call
