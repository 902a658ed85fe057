"""What needs PyTorch, in a process of its own: whoever imports it keeps hundreds of megabytes until the end.

A node on OpenVINO or ONNX Runtime needs PyTorch for seconds, and where a graph is not in the cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO, Any, TypeVar

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.inference.engines.interface import EngineError, EngineUnavailable, GraphUnavailable
from rt_segmentation.models import ModelError
from rt_segmentation.networks import NetworkError, register_network, registered_networks

T = TypeVar("T")

IDLE_S = 20.0
"""So long the process waits for more to do [s]: PyTorch takes seconds to import, a start asks three times."""

LIMIT_S = 1800.0
"""What takes longer is ended [s]."""

LAST_LINES = 3

# Errors that stay what they are; the message of any other comes as a RuntimeError.
_ERRORS = (GraphUnavailable, EngineUnavailable, EngineError, ModelError, NetworkError, ValueError, OSError)
# With the modules of this process, wherever it found them, and not with those of the working directory.
_CODE = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import serve; serve(int(sys.argv[1]))"
_PR_SET_PDEATHSIG = 1

_asking = threading.Lock()
_current: _Process | None = None


class ApartError(RtSegmentationError, RuntimeError):
    """The other process could not be started, or did not live to answer; the message has its last lines."""


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that imports PyTorch, in another process where this one has not imported it.

    In this process where it has, and where no other one could do it: without PyTorch, without a Python to
    start, or with a network that is known as a class of this process.

    Args:
        function: of a module; what it returns is of Python's own types.
        arguments: that can be pickled.

    Raises:
        ApartError: the other process failed.
        Exception: what the function raises; from another process as one of `_ERRORS`, or a RuntimeError.
    """
    global _current
    networks = registered_networks()
    if (
        "torch" in sys.modules
        or importlib.util.find_spec("torch") is None
        or not sys.executable
        or getattr(sys, "frozen", False)
        or any(callable(network) for network in networks.values())
    ):
        return function(*arguments)
    here = os.stat(".")
    state = [*sys.path], dict(os.environ), here.st_dev, here.st_ino
    with _asking:
        # After a fork there is no thread.
        if _current is None or _current.over or not _current.is_alive() or _current.state != state:
            if _current is not None:
                _current.requests.put(None)
            _current = _Process(state)
            _current.start()
        answer: Future[T] = Future()
        _current.requests.put((pickle.dumps((networks, function, arguments)), answer))
        try:
            return answer.result()
        finally:
            if not answer.done():
                # Interrupted: nobody waits for it, and the next one is not to wait behind it.
                _current.over = True
                _current.requests.put(None)


class _Process(threading.Thread):
    """The other process, and the thread that it belongs to: the system ends it with this thread.

    Args:
        state: what it takes over from this process when it starts.
    """

    def __init__(self, state: object) -> None:
        super().__init__(name="apart", daemon=True)
        self.state, self.over = state, False
        self.requests: queue.SimpleQueue[tuple[bytes, Future[Any]] | None] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def run(self) -> None:
        """Start it, and hand on requests until none comes for `IDLE_S`, or it fails."""
        request = self.requests.get()
        try:
            child = self._open()
            # Its own children may have stderr still when it has ended.
            reader = threading.Thread(target=self._read, args=(child.stderr,), daemon=True)
            reader.start()
            while request is not None:
                content, answer = request
                kind, *rest = self._ask(child, content, reader)
                if kind == "done":
                    answer.set_result(rest[0])
                else:
                    answer.set_exception(_error(kind, *rest))
                request = self._next()
            _end(child, reader)
        except Exception as error:
            # Whatever it is, somebody waits for an answer.
            self.over = True
            assert request is not None
            request[1].set_exception(error)

    def _next(self) -> tuple[bytes, Future[Any]] | None:
        while True:
            try:
                return self.requests.get(timeout=IDLE_S)
            except queue.Empty:
                # Whoever asks just now holds the lock.
                if _asking.acquire(blocking=False):
                    self.over = self.requests.empty()
                    _asking.release()
                if self.over:
                    return None

    def _open(self) -> subprocess.Popen[bytes]:
        path = [place for place in sys.path if isinstance(place, str)]
        try:
            return subprocess.Popen(
                [sys.executable, "-c", _CODE, str(os.getpid()), *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A terminal's signals are for this process.
                start_new_session=True,
            )
        except OSError as error:
            raise ApartError(f"a process for PyTorch cannot be started: {error}") from error

    def _ask(self, child: subprocess.Popen[bytes], content: bytes, reader: threading.Thread) -> list[Any]:
        assert child.stdin is not None and child.stdout is not None
        late: list[bool] = []

        def end() -> None:
            late.append(True)
            child.kill()

        limit = threading.Timer(LIMIT_S, end)
        limit.daemon = True
        limit.start()
        try:
            child.stdin.write(content)
            child.stdin.flush()
            return list(_PlainUnpickler(child.stdout).load())
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            status = _end(child, reader)
            ended = f"by its limit of {LIMIT_S:g} s" if late else _how(status)
            last = "".join(f"; {line}" for line in self._last)
            raise ApartError(f"the process that imports PyTorch ended {ended}{last}") from error
        finally:
            limit.cancel()

    def _read(self, stderr: IO[bytes]) -> None:
        """Hand on what it says, and remember the last of it."""
        for line in stderr:
            with contextlib.suppress(OSError):
                os.write(2, line)
            if text := line.decode(errors="replace").strip():
                self._last.append(text)
        stderr.close()


class _PlainUnpickler(pickle.Unpickler):
    """Reads Python's own types alone: another class could import what this process is to be without."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not of Python's own types")


def _error(kind: str, text: str, trace: str) -> Exception:
    error = next((known for known in _ERRORS if known.__name__ == kind), RuntimeError)(text)
    error.__cause__ = RuntimeError(f"in the process that imports PyTorch:\n{trace}")
    return error


def _end(child: subprocess.Popen[bytes], reader: threading.Thread) -> int:
    """Have it end where it has not; returns its status when all that it said was read."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(OSError):
        child.stdin.close()
    status = child.wait()
    child.stdout.close()
    reader.join(1.0)
    return status


def _how(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    name = signal.Signals(-status).name
    return f"by {name}, as where memory runs out" if status == -signal.SIGKILL else f"by {name}"


def serve(parent: int) -> None:
    """The other process: does what comes on stdin, and answers on what was stdout.

    Args:
        parent: number of the process that started it, with which it ends.
    """
    # A thread that waits for the end of stdin would wait for Python's lock as well.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    # What networks and libraries print.
    os.dup2(2, 1)
    with contextlib.suppress(EOFError):
        while True:
            networks, function, arguments = pickle.load(requests)
            answer: tuple[Any, ...]
            try:
                for name, place in networks.items():
                    register_network(name, place)
                answer = ("done", function(*arguments))
            except Exception as error:
                kinds = [kind.__name__ for kind in _ERRORS if isinstance(error, kind)]
                text = str(error) or type(error).__name__
                answer = ((*kinds, "RuntimeError")[0], text, traceback.format_exc())
            sys.stdout.flush()
            pickle.dump(answer, answers)
            answers.flush()
    # Threads of libraries are nobody's any more.
    sys.stderr.flush()
    os._exit(0)
