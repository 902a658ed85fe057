"""A subscription that a thread of its own reads, beside an executor that spins its node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

import rclpy
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from rt_segmentation.ros.reader import ReadElsewhere, Reader

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

PATIENCE_S = 60.0
QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class Counting(ReadElsewhere):
    """Counts how often executors ask for what belongs to it, which each does once for each of its waits."""

    asked = 0

    def can_execute(self, entity: Any) -> bool:
        """See `ReadElsewhere`."""
        self.asked += 1
        return super().can_execute(entity)


class Pair:
    """A publisher, and a subscription that a reader reads."""

    def __init__(self, context: Context, on_message: Callable[[String, Any], None]) -> None:
        self.sender = Node("sender", context=context)
        self.node = Node("receiver", context=context)
        self.publisher = self.sender.create_publisher(String, "/words", QOS)
        self.group = Counting()
        self.by_executor: list[String] = []
        self.incompatible: list[str] = []
        self.subscription = self.node.create_subscription(
            String,
            "/words",
            self.by_executor.append,
            QOS,
            callback_group=self.group,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda _: self.incompatible.append(threading.current_thread().name)
            ),
        )
        self.reader = Reader(self.node, self.subscription, on_message)
        wait_until(lambda: self.publisher.get_subscription_count() == 1, "the subscription is found")

    def send(self, *words: str) -> None:
        """Publish them."""
        for word in words:
            self.publisher.publish(String(data=word))


@pytest.fixture()
def taken() -> list[str]:
    """What the reader has handed over."""
    return []


@pytest.fixture()
def pair(context: Context, taken: list[str]) -> Iterator[Pair]:
    """A reader that refuses the word 'bad'."""

    def take(message: String, info: Any) -> None:
        assert info["source_timestamp"] > 0
        if message.data == "bad":
            raise ValueError("no such word")
        taken.append(message.data)

    made = Pair(context, take)
    yield made
    made.reader.close()
    made.node.destroy_node()
    made.sender.destroy_node()


@pytest.mark.parametrize("make_executor", [SingleThreadedExecutor, MultiThreadedExecutor])
def test_each_message_comes_once_and_in_order_and_wakes_no_executor(
    pair: Pair, taken: list[str], context: Context, make_executor: Any
) -> None:
    """The executor may look a few times, as it does without messages; it is not woken by each."""
    executor = make_executor(context=context)
    executor.add_node(pair.node)
    executor.spin_once(timeout_sec=0.1)
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            executor.spin_once(timeout_sec=0.2)

    spinning = threading.Thread(target=spin)
    spinning.start()
    words = [str(number) for number in range(200)]
    before = pair.group.asked
    for word in words:
        pair.send(word)
        wait_until(partial(taken.__contains__, word), f"{word} comes")
    asked = pair.group.asked - before
    over.set()
    spinning.join()
    executor.shutdown()
    assert taken == words
    assert pair.by_executor == []
    assert asked < len(words)


def test_messages_come_while_nobody_spins_the_node(pair: Pair, taken: list[str]) -> None:
    """Such as while a callback builds an engine."""
    pair.send("a", "b")
    wait_until(lambda: taken == ["a", "b"], "both come")


def test_a_message_that_cannot_be_handled_is_logged_and_the_next_comes(
    pair: Pair, taken: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """One bad message does not end what follows."""
    pair.send("a", "bad", "b")
    wait_until(lambda: taken == ["a", "b"], "the good ones come")
    assert "/words could not be read: ValueError: no such word" in capfd.readouterr().err


def test_events_are_handled_by_the_reader(pair: Pair) -> None:
    """An executor that waits for a subscription's events would be woken by its messages."""
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    pair.sender.create_publisher(String, "/words", best_effort)
    wait_until(lambda: pair.incompatible == ["reading"], "the event comes")


def test_nothing_comes_after_close(pair: Pair, taken: list[str]) -> None:
    """Closing waits for the message at hand."""
    pair.send("a")
    wait_until(lambda: taken == ["a"], "it comes")
    pair.reader.close()
    pair.send("b")
    assert _threads() == []
    assert taken == ["a"]


def test_a_reader_that_nobody_closes_ends_with_the_context(pair: Pair, context: Context) -> None:
    """A thread that waits in the middleware may crash the interpreter's end."""
    assert len(_threads()) == 1
    rclpy.shutdown(context=context)
    wait_until(lambda: not _threads(), "it ends")


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Wait; fails where it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.001)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reading"]
