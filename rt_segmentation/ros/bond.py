"""The bond with Nav2's lifecycle manager: a heartbeat while the node is active."""

from __future__ import annotations

import importlib
import os
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node

# As Nav2's own nodes have them: topic and id must be those that the manager looks for.
TOPIC = "bond"
PERIOD_S = 0.1
TIMEOUT_S = 4.0
# Longer than bondpy's period between two messages that say so.
TOLD_S = 0.7


class Bond:
    """Is formed while the node is active, where its parameter `bond` asks for it and bondpy is installed.

    Args:
        node: whose name is the bond's id.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._bond: Any = None

    def form(self) -> None:
        """Tell the manager from now on that the node lives; without bondpy say what to do instead."""
        try:
            made = importlib.import_module("bondpy.bondpy").Bond(self._node, TOPIC, self._node.get_name())
        except ImportError as error:
            distro = os.environ.get("ROS_DISTRO", "DISTRO")
            self._node.get_logger().error(
                f"parameter 'bond' is true and bondpy cannot be imported ({error}): sudo apt install "
                f"ros-{distro}-bondpy, or set bond_timeout: 0.0 in the lifecycle manager's parameters"
            )
            return
        # The middleware's: a security policy may lack the topic, and masks are worth more than a bond.
        except Exception as error:
            self._node.get_logger().error(
                f"the bond that parameter 'bond' asks for cannot be formed, and the lifecycle manager takes "
                f"the node for dead: {type(error).__name__}: {error}"
            )
            return
        made.heartbeat_period, made.heartbeat_timeout = PERIOD_S, TIMEOUT_S
        made.set_broken_callback(self._broken)
        made.start()
        self._bond = made

    def end(self) -> None:
        """Tell the manager that the node is active no more."""
        made, self._bond = self._bond, None
        if made is None:
            return
        # Its own thread tells the manager, and needs its topics for that.
        made.break_bond()
        made.wait_until_broken(Duration(seconds=TOLD_S))
        made.shutdown()
        # It has destroyed its topics without the node's knowledge, whose executor would fail over them.
        self._node.destroy_subscription(made.sub)
        self._node.destroy_publisher(made.pub)

    def _broken(self) -> None:
        if self._bond is not None:
            self._node.get_logger().warning(
                "the bond with the lifecycle manager is broken: it has ended, or is not heard any more"
            )
