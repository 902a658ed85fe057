"""A node as a process: started, spun, ended by a signal, with an exit status."""

from __future__ import annotations

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
from rclpy.signals import SignalHandlerOptions

from rt_segmentation.text import printable

T = TypeVar("T")

# Of the process, as signals are.
_stopped = threading.Event()
_asides: list[threading.Thread] = []


class StartError(ValueError):
    """A node that cannot start; the message is one sentence that says why."""


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


class _InterruptedAtStart(BaseException):
    """A signal came while the node was being made; it may be in the middle of a long import or build."""


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

    Args:
        name: the logger's, for errors before there is a node.
        make_node: returns an rclpy Node with `ProcessNode`'s methods.
        argv: command line with the program's name first; the process's own by default.

    Returns:
        0 at the end or after SIGINT or SIGTERM; 2 where it could not start, after one sentence in the log.
        Both signals are ignored from then on, since a second one, as launch sends it, may come while the
        process ends.
    """
    threads_ended = True
    try:
        threads_ended = _run(make_node, list(sys.argv if argv is None else argv))
    except (ValueError, ParameterException) as error:
        get_logger(name).fatal(printable(error))
        return 2
    except (ExternalShutdownException, _InterruptedAtStart):
        pass
    finally:
        _on_signals(signal.SIG_IGN)
        rclpy.try_shutdown()
    if not threads_ended or any(thread.is_alive() for thread in _asides):
        # A thread inside a library's native code would crash the interpreter's own end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _run(make_node: Callable[[], ProcessNode], argv: list[str]) -> bool:
    _stopped.clear()

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Python drops an exception that is raised inside a finaliser: the loop below must know all the same.
        _stopped.set()
        raise _InterruptedAtStart

    foreign = next((printable(argument) for argument in argv if printable(argument) != argument), None)
    if foreign is not None:
        raise StartError(f"'{foreign}' is not UTF-8, and ROS has no other text; give a link to that path")
    # Not rclpy's own handlers, which shut the context down under the last messages.
    _on_signals(interrupt)
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise StartError(f"the command line is not understood: {error}") from error
    node = make_node()
    assert isinstance(node, Node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    threads_ended = False
    try:
        node.start()
        _on_signals(lambda *_: _stopped.set())
        while not (node.finished or interrupted()):
            executor.spin_once(timeout_sec=0.1)
    finally:
        _on_signals(signal.SIG_IGN)
        threads_ended = node.close()
        executor.shutdown(timeout_sec=0.0)
        node.destroy_node()
    return threads_ended


def _on_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
