"""A node as a process: started, spun, ended by a signal, with an exit status."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from types import FrameType
from typing import Protocol, TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

from rt_segmentation.ros.middleware import RCLError, StartError, plain, start_ros
from rt_segmentation.ros.services import answer_always

T = TypeVar("T")

# Of the process, as signals are.
_stopped = threading.Event()
_asides: list[threading.Thread] = []


class ProcessNode(Protocol):
    """What `run_node` needs of a node beside being an rclpy Node."""

    @property
    def finished(self) -> bool:
        """Whether the node has nothing left to do."""
        ...

    def start(self) -> None:
        """Called once, before the node is spun; may raise ValueError with a sentence."""
        ...

    def close(self) -> bool:
        """Called once, at the end, while the context still is valid; takes 1.5 s at most.

        Returns:
            Whether all its threads have ended.
        """
        ...


def interrupted() -> bool:
    """Whether SIGINT or SIGTERM came since the node was started: a callback that waits must return then."""
    return _stopped.is_set()


class Interrupted(Exception):
    """SIGINT or SIGTERM came while a callback waited: the process is about to end."""


def aside(job: Callable[[], T]) -> T:
    """Do a long job on a thread of its own, for native code that builds an engine would hold up signals.

    Returns:
        The job's result; it may raise what the job raises.

    Raises:
        Interrupted: a signal came. The job is left to itself, and the process ends without it.
    """
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(job())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=work, name="aside", daemon=True)
    _asides.append(thread)
    thread.start()
    while not interrupted():
        if wait([result], timeout=0.1).done:
            _asides.remove(thread)
            return result.result()
    raise Interrupted


def run_node(name: str, make_node: Callable[[], ProcessNode], argv: Sequence[str] | None = None) -> int:
    """Make a node and spin it until it is finished or interrupted.

    Nothing that others send to its services ends it: a request whose callback raises is answered as refused.

    Args:
        name: the logger's, for errors before there is a node.
        make_node: returns an rclpy Node with `ProcessNode`'s methods; quick, as signals wait for its end.
        argv: command line with the program's name first; the process's own by default.

    Returns:
        0 at the end or after SIGINT or SIGTERM; 2 where it could not start, after one sentence in the log.
        Both signals are ignored from then on, since a second one, as launch sends it, may come while the
        process ends.
    """
    status, threads_ended = 0, True
    try:
        threads_ended = _run(name, make_node, list(sys.argv if argv is None else argv))
    except (ValueError, ParameterException) as error:
        get_logger(name).fatal(str(error))
        status = 2
    except (ExternalShutdownException, Interrupted):
        pass
    finally:
        _on_signals(signal.SIG_IGN)
        # A node that was not made to its end has its part in the middleware as long as anything refers to it.
        gc.collect()
        rclpy.try_shutdown()
    if not threads_ended or any(thread.is_alive() for thread in _asides):
        # A thread inside a library's native code would crash the interpreter's own end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(name: str, make_node: Callable[[], ProcessNode], argv: list[str]) -> bool:
    _stopped.clear()
    # Not rclpy's handlers, which shut the context down under the last messages.
    _on_signals(lambda *_: _stopped.set())
    start_ros(name, argv)
    try:
        node = make_node()
    except RCLError as error:
        raise StartError(f"the node cannot be made: {plain(error)}") from error
    assert isinstance(node, Node)
    answer_always(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    threads_ended = False
    try:
        if not interrupted():
            node.start()
        while not (node.finished or interrupted()):
            executor.spin_once(timeout_sec=0.1)
    finally:
        _on_signals(signal.SIG_IGN)
        threads_ended = node.close()
        executor.shutdown(timeout_sec=0.0)
        _destroy(node)
    return threads_ended


def _destroy(node: Node) -> None:
    """Take a node out of the middleware, whoever still refers to it: a thread that is left to itself does.

    What is not taken out leaves its shared memory behind where the process ends with `os._exit`.
    """
    node.destroy_node()
    # A lifecycle node's state machine has services that keep the node's part there.
    for part in list(vars(node).values()):
        if hasattr(part, "destroy_when_not_in_use"):
            part.destroy_when_not_in_use()


def _on_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
