"""A node as a process: started, spun, ended by a signal, with an exit status."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from types import FrameType
from typing import Protocol, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.utilities import get_default_context

from rt_segmentation.ros.middleware import RCLError, StartError, plain, start_ros
from rt_segmentation.ros.watchdog import Watchdog
from rt_segmentation.runtime.heap import share_heaps
from rt_segmentation.text import printable

T = TypeVar("T")

JOB_POLL_S = 0.1
LAST_ANSWER_S = 0.2


class Interrupted(Exception):
    """The process, or the node's context, ended while a callback waited."""


class Process:
    """What a node asks of the process that it lives in.

    Args:
        context: the node's; rclpy's own by default.

    Attributes:
        stopping: set when the process is to end.
    """

    def __init__(self, context: Context | None = None) -> None:
        self.stopping = threading.Event()
        self._context = get_default_context() if context is None else context
        self._jobs: list[threading.Thread] = []
        self._watchdog: Watchdog | None = None

    def interrupted(self) -> bool:
        """Whether the process or the context is to end: a callback that waits must return then.

        Whoever waits asks this a few times per second, which is the process's sign of life.
        """
        if self._watchdog is not None:
            self._watchdog.beat()
        return self.stopping.is_set() or not self._context.ok()

    def watch_over(self, limit_s: float) -> None:
        """End the process when nobody asks `interrupted` for so long [s]; see `Watchdog`."""
        self._watchdog = Watchdog(limit_s)

    @contextlib.contextmanager
    def long_work(self) -> Iterator[None]:
        """Around what may keep Python's lock for minutes, in any thread: the process is not frozen then."""
        with contextlib.nullcontext() if self._watchdog is None else self._watchdog.long_work():
            yield

    def run_interruptibly(self, job: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """Do a long job on a thread of its own: native code that builds an engine would hold up signals.

        Args:
            job: what takes long.
            meanwhile: called some times per second until it is done.

        Returns:
            The job's result; it may raise what the job raises.

        Raises:
            Interrupted: the process is to end. The job is left to itself.
        """
        result: Future[T] = Future()

        def work() -> None:
            try:
                with self.long_work():
                    done = job()
            except BaseException as error:
                result.set_exception(error)
            else:
                result.set_result(done)

        thread = threading.Thread(target=work, name="long job", daemon=True)
        self._jobs.append(thread)
        thread.start()
        while not self.interrupted():
            if wait([result], timeout=JOB_POLL_S).done:
                self._jobs.remove(thread)
                return result.result()
            meanwhile()
        raise Interrupted

    @property
    def is_busy(self) -> bool:
        """Whether a job was left to itself and is at work still."""
        return any(thread.is_alive() for thread in self._jobs)

    def close(self) -> None:
        """Watch no more."""
        if self._watchdog is not None:
            self._watchdog.close()


class ProcessNode(Protocol):
    """What `run_node` needs of a node beside being an rclpy Node."""

    @property
    def finished(self) -> bool:
        """Whether the node has nothing left to do."""
        ...

    @property
    def failed(self) -> bool:
        """Whether the node could not start, and has said why in one sentence of its log."""
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


def run_node(
    name: str, make_node: Callable[[Process], ProcessNode], argv: Sequence[str] | None = None
) -> int:
    """Make a node and spin it until it is finished or interrupted.

    Args:
        name: the logger's, for errors before there is a node.
        make_node: returns an rclpy Node with `ProcessNode`'s methods; quick, as signals wait for its end.
        argv: command line with the program's name first; the process's own by default.

    Returns:
        0 at the end or after SIGINT or SIGTERM; 2 where it could not start, after one sentence in the log.
        Both signals are ignored from then on, since a second one, as launch sends it, may come while the
        process ends.
    """
    share_heaps()
    process = Process()
    status, threads_ended = 0, True
    try:
        failed, threads_ended = _run(name, make_node, process, list(sys.argv if argv is None else argv))
        status = 2 if failed else 0
    except (ValueError, ParameterException) as error:
        get_logger(name).fatal(printable(error))
        status = 2
    except (ExternalShutdownException, Interrupted):
        pass
    finally:
        _on_signals(signal.SIG_IGN)
        # A node that was not made to its end has its part in the middleware as long as anything refers to it.
        gc.collect()
        rclpy.try_shutdown()
        process.close()
    if not threads_ended or process.is_busy:
        # A thread inside a library's native code would crash the interpreter's own end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _run(
    name: str, make_node: Callable[[Process], ProcessNode], process: Process, argv: list[str]
) -> tuple[bool, bool]:
    """Returns whether the node failed to start, and whether all its threads have ended."""
    foreign = next((printable(argument) for argument in argv if printable(argument) != argument), None)
    if foreign is not None:
        raise StartError(f"'{foreign}' is not UTF-8, and ROS has no other text; give a link to that path")
    # Not rclpy's own handlers, which shut the context down under the last messages.
    _on_signals(lambda *_: process.stopping.set())
    start_ros(name, argv)
    try:
        node = make_node(process)
    except RCLError as error:
        raise StartError(f"the node cannot be made: {plain(error)}") from error
    assert isinstance(node, Node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    threads_ended = False
    try:
        if not process.interrupted():
            node.start()
        while not (node.finished or node.failed or process.interrupted()):
            executor.spin_once(timeout_sec=0.1)
        if node.finished:
            # The answer to whoever asked for the end is on its way: without its writer it is lost.
            process.stopping.wait(LAST_ANSWER_S)
    finally:
        _on_signals(signal.SIG_IGN)
        # The last sign of life: the watchdog ends an end that hangs.
        process.interrupted()
        threads_ended = node.close()
        executor.shutdown(timeout_sec=0.0)
        _destroy(node)
    return node.failed, threads_ended


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
