"""A subscription that a thread of its own reads, past the executor.

rclpy's executors build a new set of all that a node waits for after each callback, in Python: for a lifecycle
node that takes 2 ms of a processor and Python's lock, for each image, beside an engine that needs both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

T = TypeVar("T")
POLL_S = 0.5
"""So long after the end of the context a reader ends that nobody closes [s]."""

FAILURE_PAUSE_S = 0.05
"""After a message that cannot be read [s]."""


class ReadElsewhere(CallbackGroup):
    """A callback group of subscriptions that no executor waits for.

    Nor for their events: with Fast DDS whoever waits for those is woken by each message as well.
    """

    def can_execute(self, entity: Any) -> bool:
        """See `CallbackGroup`."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """See `CallbackGroup`."""
        return True

    def ending_execution(self, entity: Any) -> None:
        """See `CallbackGroup`."""


class Reader:
    """Hands over each message of a subscription as soon as it has come, and its events, on one thread.

    Args:
        node: the subscription's owner.
        subscription: made with the callback group `ReadElsewhere`.
        on_message: called with each message and rclpy's information on it.
    """

    def __init__(self, node: Node, subscription: Any, on_message: Callable[[Any, Any], None]) -> None:
        self._node, self._subscription, self._on_message = node, subscription, on_message
        self._closed = threading.Event()
        self._wake = GuardCondition(None, None, node.context)
        self._thread = threading.Thread(target=self._read, name="reading", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read no more; nothing is handed over afterwards. Not to be called by `on_message`."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._wake.trigger()
        self._thread.join()
        self._wake.destroy()

    def _read(self) -> None:
        context = self._node.context
        assert context.handle is not None
        # What is used here stays, whoever takes it out of the middleware meanwhile.
        with context.handle, self._subscription.handle, self._wake.handle:
            events = len(self._subscription.event_handlers)
            waiting = rclpy_implementation.WaitSet(1, 1, 0, 0, 0, events, context.handle)
            while not self._closed.is_set() and context.ok():
                self._guarded(self._wait, waiting)
                while not self._closed.is_set() and self._guarded(self._take):
                    pass

    def _wait(self, waiting: rclpy_implementation.WaitSet) -> None:
        """Wait for messages and events, and handle the events."""
        events = self._subscription.event_handlers
        waiting.clear_entities()
        waiting.add_subscription(self._subscription.handle)
        waiting.add_guard_condition(self._wake.handle)
        for event in events:
            event.add_to_wait_set(waiting)
        waiting.wait(int(POLL_S * 1e9))
        for event in events:
            if event.is_ready(waiting):
                event.callback(event.take_data())

    def _take(self) -> bool:
        """Whether there was a message."""
        taken = self._subscription.handle.take_message(self._subscription.msg_type, False)
        if taken is not None:
            self._on_message(*taken)
        return taken is not None

    def _guarded(self, step: Callable[..., T], *arguments: Any) -> T | None:
        """What a step gives; None where it fails: the next may be fine, and the robot needs its images."""
        try:
            return step(*arguments)
        except Exception as error:
            self._node.get_logger().error(
                f"{self._subscription.topic} could not be read: {type(error).__name__}: {error}",
                throttle_duration_sec=1.0,
            )
            # It may be every one of many.
            self._closed.wait(FAILURE_PAUSE_S)
            return None
