"""A small process beside a node that ends it when it is frozen, and shows where it stands.

A thread of the node could not: often one in native code keeps Python's lock for ever, so that no other runs
and no signal is answered.

It also outlives a node that is killed, or that crashes, and removes what Fast DDS leaves in shared memory
then: 17 MB each time, until a robot that starts its node again and again has none left.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator

LONG_WORK_S = 1800.0
"""What native code that builds an engine may take, which can keep Python's lock for as long [s]."""

BEAT_INTERVAL_S = 0.2
_SLICE_S = 0.25
_GRACE_S = 10.0
_LOOK_S = 5.0
_FREED_S = 1.0
_END_S = 0.5
# The owner of a segment keeps it locked as long as it lives; whoever reads it only looks whether it is.
_SEGMENT_LOCK = re.compile(r"(/dev/shm/fast(?:dds|rtps)_[0-9a-f]{16})_el")


class Watchdog:
    """Ends this process when `beat` is not called for too long.

    Its threads' stacks go to stderr then, and the process ends by SIGABRT. Time in which it is stopped or the
    machine sleeps does not count.

    Args:
        limit_s: how long may pass between two beats [s].
    """

    def __init__(self, limit_s: float) -> None:
        # The process that watches needs nothing of it.
        import subprocess

        self._limit_s = limit_s
        self._beaten = 0.0
        self._long_works = 0
        self._closed = False
        self._counting = threading.Lock()
        # Its handler of SIGABRT writes all threads' stacks without Python's lock. A duplicate: stderr itself
        # may be redirected at that moment, see `imaging.native_messages`.
        faulthandler.enable(file=os.dup(2))
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # A terminal's signals are for the node.
            start_new_session=True,
        )
        assert self._child.stdin is not None
        self._pipe = self._child.stdin.fileno()
        os.set_blocking(self._pipe, False)
        self._say()

    def beat(self) -> None:
        """A sign of life; costs nothing, however often it is given."""
        now = time.monotonic()
        if now - self._beaten >= BEAT_INTERVAL_S:
            self._beaten = now
            self._count(0)

    @contextlib.contextmanager
    def long_work(self) -> Iterator[None]:
        """While a thread does what may keep Python's lock for minutes: `LONG_WORK_S` may pass then."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def close(self) -> None:
        """Watch no more; threads that are left to themselves may go on to say what they do."""
        import subprocess

        assert self._child.stdin is not None
        with self._counting:
            self._closed = True
            self._child.stdin.close()
        # Somebody may have stopped it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_S)

    def _count(self, change: int) -> None:
        with self._counting:
            self._long_works += change
            # Its number may be another file's by then.
            if not self._closed:
                self._say()

    def _say(self) -> None:
        allowed = max(self._limit_s, LONG_WORK_S) if self._long_works else self._limit_s
        # Full where it is stopped, broken where somebody ended it.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, f"{allowed}\n".encode())


def _watch(process: int) -> None:
    """The other process: reads from stdin what silence is allowed, and counts it until there is more to read.

    It counts what it sees itself: while it sleeps or starves, so does the process that it watches.
    """
    # systemd sends it to all that a node has left as soon as that is killed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    allowed_s, silent_s = float("inf"), 0.0
    segments: set[str] = set()
    looked = float("-inf")
    while True:
        if time.monotonic() - looked > _LOOK_S:
            # Those of this look alone: for moments it also opens others' locks, to see whether they live.
            segments = _segments(process) or segments
            looked = time.monotonic()
        readable, _, _ = select.select([0], [], [], _SLICE_S)
        if readable:
            said = os.read(0, 65536)
            if not said:
                _remove(segments)
                return
            allowed_s, silent_s = float(said.split()[-1]), 0.0
        elif _is_stopped(process):
            continue
        else:
            silent_s += _SLICE_S
            if silent_s > allowed_s:
                break
    # It may have ended, and another process may have its number, while a fork of it has the pipe.
    if os.getppid() == process:
        sys.stderr.write(
            f"[FATAL] process {process} is frozen: no sign of life for {allowed_s:g} s (parameter"
            " `watchdog_s`); it is ended now, and this is where its threads stand:\n"
        )
        sys.stderr.flush()
        os.kill(process, signal.SIGABRT)
        # Nothing comes any more but the end of the pipe, with the process.
        if not select.select([0], [], [], _GRACE_S)[0] or os.read(0, 65536):
            os.kill(process, signal.SIGKILL)
    while os.read(0, 65536):
        pass
    _remove(segments)


def _segments(process: int) -> set[str]:
    """The segments of shared memory that a process owns."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                lock = _SEGMENT_LOCK.fullmatch(os.readlink(entry.path))
                if lock:
                    found.add(lock[1])
    return found


def _remove(segments: set[str]) -> None:
    """Remove those of a process that has ended without doing so; what somebody owns stays."""
    over = time.monotonic() + _FREED_S
    while segments := {path for path in segments if os.path.exists(path)}:
        for path in segments:
            with contextlib.suppress(OSError):
                lock = os.open(f"{path}_el", os.O_RDONLY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
                    os.unlink(f"{path}_el")
                finally:
                    os.close(lock)
        if time.monotonic() > over:
            return
        # A process that is ending lets go of one file after the other.
        time.sleep(0.02)


def _is_stopped(process: int) -> bool:
    """Whether somebody stopped it, or a debugger holds it."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
