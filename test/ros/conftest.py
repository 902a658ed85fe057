"""Real ROS for tests: a domain of one's own, a node in this process, and nodes in processes of their own."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.node import Node

    from rt_segmentation.models import ModelManifest

REPOSITORY = Path(__file__).resolve().parents[2]
# Of this process's children: the package, and the nodes in test/support.
PATHS = (str(REPOSITORY), str(REPOSITORY / "test"))
# Above 101 the ports of a domain collide with those that Linux hands out to anybody.
DOMAINS = 101
# Ends what would never end; generous, as a busy machine takes many times as long.
PATIENCE_S = 90.0
_taken = 0


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Give the package's logger back, which a node in this process takes for itself."""
    package = logging.getLogger("rt_segmentation")
    before = package.handlers, package.level, package.propagate
    yield
    package.handlers, package.level, package.propagate = before


@pytest.fixture(scope="session")
def small_model(small_model: ModelManifest) -> ModelManifest:
    """Its engines are in the cache."""
    from support.node_under_test import fill_cache

    fill_cache(small_model, (160, 120), (96, 64))
    return small_model


@contextlib.contextmanager
def claimed_domain() -> Iterator[int]:
    """A ROS domain that no other test of this machine uses at the same time."""
    global _taken
    pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
    _taken += 1
    start = os.getpid() * 7 + _taken
    for candidate in range(start, start + DOMAINS):
        domain = candidate % DOMAINS + 1
        with open(Path(tempfile.gettempdir()) / f"rt_segmentation_domain_{domain}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield domain
            return
    pytest.fail("all ROS domains from 1 to 101 are in use")


def set_environment(monkeypatch: pytest.MonkeyPatch, domain_id: int, folder: Path) -> None:
    """Prepare this process and its children: local discovery, large messages, no logs at home."""
    settings = {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_LOG_DIR": str(folder / "ros_log"),
        # Fast DDS's shared memory loses messages larger than its segment of 512 kB.
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
        "PYTHONPATH": os.pathsep.join(filter(None, (*PATHS, os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
    }
    # ROS 2 from PyPI sets none; a sourced installation has its own.
    settings["AMENT_PREFIX_PATH"] = os.environ.get("AMENT_PREFIX_PATH") or sys.prefix
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.fixture()
def domain_id() -> Iterator[int]:
    """A ROS domain that no other test of this machine uses at the same time."""
    with claimed_domain() as domain:
        yield domain


@pytest.fixture()
def ros_environment(domain_id: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of this process and its children."""
    set_environment(monkeypatch, domain_id, tmp_path)


class Process:
    """A node in a process of its own; stdout and stderr are read into one text."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._grown = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        with self._grown:
            return "".join(self._lines)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait_for(self, text: str) -> None:
        """Wait until `text` is in the output; fails with the output when it never is."""
        with self._grown:
            there = self._grown.wait_for(lambda: text in "".join(self._lines) or self._over(), PATIENCE_S)
        if not there or text not in self.output:
            pytest.fail(f"'{text}' is not in the output:\n{self.output}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process group, as a terminal does."""
        os.killpg(self._process.pid, number)

    def finish(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; returns its exit code, fails with the output when it does not end."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout_s} s:\n{self.output}")
        self._reader.join(timeout_s)
        return code

    def kill(self) -> None:
        """End it and its children, whatever state they are in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5.0)

    def _over(self) -> bool:
        return not self._reader.is_alive()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                with self._grown:
                    self._lines.append(line)
                    self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()


Spawn = Callable[..., Process]


@pytest.fixture()
def spawn(ros_environment: None) -> Iterator[Spawn]:
    """Start `python -m module *args` as a process of its own; all are gone after the test.

    Keyword arguments are added to the process's environment.
    """
    processes: list[Process] = []

    def start(module: str, *args: str, **environment: str) -> Process:
        process = Process([sys.executable, "-m", module, *args], {**os.environ, **environment})
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()


@pytest.fixture()
def context(ros_environment: None, domain_id: int) -> Iterator[Context]:
    """An rclpy context of this process in the test's domain."""
    import rclpy
    from rclpy.context import Context

    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    yield context
    rclpy.try_shutdown(context=context)


class Observer:
    """A node of this process that subscribes and calls services, spun by the test itself."""

    def __init__(self, context: Context) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.node: Node = Node("observer", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self._subscriptions: list[tuple[list[Any], Any]] = []

    def subscribe(self, message_type: Any, topic: str, qos: Any) -> list[Any]:
        """Subscribe and return the list that the messages are appended to."""
        messages: list[Any] = []
        subscription = self.node.create_subscription(message_type, topic, messages.append, qos)
        self._subscriptions.append((messages, subscription))
        return messages

    def unsubscribe(self, messages: list[Any]) -> None:
        """Listen no more for what goes into the list."""
        for entry in self._subscriptions:
            if entry[0] is messages:
                self.node.destroy_subscription(entry[1])
        self._subscriptions = [entry for entry in self._subscriptions if entry[0] is not messages]

    def spin_until(self, reached: Callable[[], bool]) -> None:
        """Spin until `reached()`; fails when it never is."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(f"not reached within {PATIENCE_S} s")
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        """Call a service and return its response."""
        client: Any = self.node.create_client(service_type, name)
        self.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self.spin_until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """Destroy the node."""
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture()
def observer(context: Context) -> Iterator[Observer]:
    """A node of this process in the test's domain."""
    observer = Observer(context)
    yield observer
    observer.close()


class Stage:
    """One domain for all tests of a module: processes that outlive a test, and an observer."""

    def __init__(self, context: Context) -> None:
        self.observer = Observer(context)
        self._processes: list[Process] = []

    def spawn(self, module: str, *args: str, **environment: str) -> Process:
        """Start `python -m module *args`; keyword arguments are added to its environment."""
        process = Process([sys.executable, "-m", module, *args], {**os.environ, **environment})
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End all processes and the observer."""
        for process in self._processes:
            process.kill()
        self.observer.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A domain that the tests of a module share, where starting a node for each would take minutes."""
    with claimed_domain() as domain, pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch, domain, tmp_path_factory.mktemp("stage"))
        import rclpy
        from rclpy.context import Context

        context = Context()
        rclpy.init(context=context, domain_id=domain)
        stage = Stage(context)
        yield stage
        stage.close()
        rclpy.try_shutdown(context=context)


Listen = Callable[..., list[Any]]


@pytest.fixture()
def listen(stage: Stage) -> Iterator[Listen]:
    """Subscribe on the stage, `listen(message_type, topic)`, until the test is over."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    lists: list[list[Any]] = []

    def subscribe(message_type: Any, topic: str) -> list[Any]:
        qos = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        lists.append(stage.observer.subscribe(message_type, topic, qos))
        return lists[-1]

    yield subscribe
    for messages in lists:
        stage.observer.unsubscribe(messages)
