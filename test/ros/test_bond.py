"""The bond with Nav2's lifecycle manager."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import String

from rt_segmentation.ros.bond import Bond


class Recorded:
    """What stands for bondpy's bond where that is not installed."""

    made: list[Recorded]

    def __init__(self, node: Node, topic: str, identity: str) -> None:
        self.of = (node.get_name(), topic, identity)
        self.calls: list[str] = []
        self.sub, self.pub = node.create_subscription(String, topic, print, 1), None
        self.heartbeat_period = self.heartbeat_timeout = 0.0
        self.made.append(self)

    def set_broken_callback(self, broken: Any) -> None:
        self.broken = broken

    def start(self) -> None:
        self.calls.append("start")

    def break_bond(self) -> None:
        self.calls.append("break")

    def wait_until_broken(self, timeout: Any) -> None:
        assert timeout.nanoseconds > 0

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self.sub.destroy()
        self.broken()


def install(monkeypatch: pytest.MonkeyPatch, bond: Any) -> None:
    """A bondpy whose bond is this."""
    bondpy = ModuleType("bondpy.bondpy")
    bondpy.Bond = bond  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", bondpy)


def said_in_vain(context: Context, capfd: pytest.CaptureFixture[str]) -> str:
    """What a node says whose bond cannot be formed."""
    node = Node("segmentation_node", context=context)
    bond = Bond(node)
    bond.form()
    bond.end()
    node.destroy_node()
    return "".join(capfd.readouterr())


def test_each_activation_has_a_bond_of_its_own(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorded.made = []
    install(monkeypatch, Recorded)
    node = Node("segmentation_node", context=context)
    bond = Bond(node)
    bond.end()
    for _ in range(2):
        bond.form()
        bond.end()
        bond.end()
    assert not [subscription for subscription in node.subscriptions if subscription.topic_name == "/bond"]
    node.destroy_node()
    assert [made.calls for made in Recorded.made] == [["start", "break", "shutdown"]] * 2
    for made in Recorded.made:
        # Nav2's: the topic `bond`, the node's name, ten heartbeats per second, four seconds of silence.
        assert made.of == ("segmentation_node", "bond", "segmentation_node")
        assert (made.heartbeat_period, made.heartbeat_timeout) == (0.1, 4.0)


def test_without_bondpy_it_says_what_to_do_and_the_node_goes_on(
    context: Context, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", None)
    output = said_in_vain(context, capfd)
    assert "parameter 'bond' is true and bondpy cannot be imported" in output
    assert "set bond_timeout: 0.0 in the lifecycle manager's parameters" in output


def test_the_real_one_hears_its_sister(context: Context, observer: Any) -> None:
    bondpy = pytest.importorskip("bondpy.bondpy", reason="bondpy is not installed")
    node = Node("segmentation_node", context=context)
    observer.executor.add_node(node)
    bond = Bond(node)
    # The manager's end.
    sister = bondpy.Bond(observer.node, "bond", "segmentation_node")
    formed: list[bool] = []
    broken: list[bool] = []
    sister.set_formed_callback(lambda: formed.append(True))
    sister.set_broken_callback(lambda: broken.append(True))
    sister.start()
    bond.form()
    # Both ends know of each other.
    observer.spin_until(lambda: bool(formed) and bond._bond.sm.getState().getName() == "SM.Alive")
    assert not broken
    bond.end()
    observer.spin_until(lambda: bool(broken))
    # The executor goes on without the topics that are gone.
    for _ in range(3):
        observer.executor.spin_once(timeout_sec=0.05)
    sister.shutdown()
    node.destroy_node()


def test_a_topic_that_is_not_permitted_costs_the_bond_and_not_the_node(
    context: Context, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("create_publisher() is not permitted")

    install(monkeypatch, refuse)
    assert "takes the node for dead: RuntimeError: create_publisher()" in said_in_vain(context, capfd)
