"""Nodes that are destroyed while an executor of somebody else is at work on them: the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from support.node_under_test import PATIENCE_S, RELIABLE

from rt_segmentation.ros.camera_node import CameraNode
from rt_segmentation.ros.cloud_node import CloudNode
from rt_segmentation.ros.ground_node import GroundNode
from rt_segmentation.ros.guarded import GuardedNode
from rt_segmentation.ros.middleware import InvalidHandle
from rt_segmentation.ros.process import Process
from rt_segmentation.ros.segmentation_node import SegmentationNode
from rt_segmentation.ros.services import answer_always


class Hold:
    """Holds up a callback, as a busy machine does, until its node is destroyed."""

    def __init__(self) -> None:
        self.held, self._let_go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.held.set()
        assert self._let_go.wait(PATIENCE_S)

    def destroys(self, node: Node) -> None:
        """Destroy the node while its callback is held, and let that go on."""
        assert self.held.wait(PATIENCE_S)
        node.destroy_node()
        self._let_go.set()


@contextmanager
def goes_on(executor: Executor, node: Node, neighbour: Node, failures: list[BaseException]) -> Iterator[None]:
    """Spin both; in the end, the neighbour must still be served, unless the executor failed."""

    def spin() -> None:
        try:
            executor.spin()
        except Exception as error:
            failures.append(error)

    ticks: list[float] = []
    executor.add_node(node)
    executor.add_node(neighbour)
    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
        # Made now, so that it cannot have come before.
        neighbour.create_timer(0.01, lambda: ticks.append(time.monotonic()))
        end = time.monotonic() + PATIENCE_S
        while len(ticks) < 3 and not failures and time.monotonic() < end:
            time.sleep(0.005)
        assert failures or len(ticks) >= 3
    finally:
        executor.shutdown()
        thread.join()
        neighbour.destroy_node()


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("kind", ["timer", "subscription", "guard condition", "service"])
def test_a_callback_of_a_node_that_is_destroyed_meanwhile_ends_without_a_word(
    context: Context, kind: str, guarded: bool
) -> None:
    hold, failures = Hold(), list[BaseException]()
    node = (GuardedNode if guarded else Node)("destroyed", context=context)
    neighbour = Node("neighbour", context=context)
    publisher = node.create_publisher(Empty, "out", RELIABLE)

    def work(*_: Any) -> None:
        hold()
        publisher.publish(Empty())

    def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        hold()
        return response

    if kind == "timer":
        node.create_timer(0.0, work)
    elif kind == "subscription":
        node.create_subscription(Empty, "in", lambda message: work(message), RELIABLE)
        sender = neighbour.create_publisher(Empty, "in", RELIABLE)
        neighbour.create_timer(0.05, lambda: sender.publish(Empty()))
    elif kind == "guard condition":
        node.create_guard_condition(work).trigger()
    else:
        node.create_service(Trigger, "asked", serve)
        client: Any = neighbour.create_client(Trigger, "asked")
        assert client.wait_for_service(PATIENCE_S)
        client.call_async(Trigger.Request())
    if isinstance(node, GuardedNode):
        answer_always(node)
    with goes_on(SingleThreadedExecutor(context=context), node, neighbour, failures):
        hold.destroys(node)
    # Without the guard it is rclpy's to say; that it does say something makes this a test.
    assert [type(error) for error in failures] == ([] if guarded else [InvalidHandle])


def test_an_error_of_a_node_that_is_there_is_not_hidden(context: Context) -> None:
    node, other = GuardedNode("there", context=context), Node("other", context=context)
    publisher = other.create_publisher(Empty, "out", RELIABLE)
    other.destroy_node()
    with pytest.raises(InvalidHandle):
        node.until_destroyed(publisher.publish)(Empty())
    node.destroy_node()


@pytest.mark.parametrize("node_class", [CloudNode, GroundNode, CameraNode, SegmentationNode])
def test_all_nodes_are_guarded(node_class: type[Node]) -> None:
    assert issubclass(node_class, GuardedNode)


@pytest.mark.parametrize("make_executor", [SingleThreadedExecutor, MultiThreadedExecutor])
@pytest.mark.parametrize(
    ("node_class", "callback"),
    [(GroundNode, "_diagnose"), (CloudNode, "_update"), (CameraNode, "_publish_next")],
)
def test_the_nodes_leave_an_executor_of_anybody_alone(
    ros_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    node_class: Any,
    callback: str,
    make_executor: Callable[[], Executor],
) -> None:
    hold, failures, work = Hold(), list[BaseException](), getattr(node_class, callback)

    def held(node: Any) -> None:
        if armed:
            hold()
        work(node)

    armed = False
    monkeypatch.setattr(node_class, callback, held)
    rclpy.init(args=[])
    try:
        node = node_class(*[Process()] if node_class is CameraNode else [])
        node.start()
        with goes_on(make_executor(), node, Node("neighbour"), failures):
            armed = True
            hold.destroys(node)
        node.close()
    finally:
        rclpy.try_shutdown()
    assert not failures and "InvalidHandle" not in capfd.readouterr().err
