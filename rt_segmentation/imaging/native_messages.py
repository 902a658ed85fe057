"""What libjpeg and libpng write to stderr themselves, as lines of the log."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Iterator

logger = logging.getLogger(__name__)

# One camera with a loose plug says the same of every image.
EVERY_S = 10.0
# What was read is kept in memory up to here.
KEPT_BYTES = 65536
_STDERR = 2
_OF_LIBRARIES = re.compile(
    rb"(libpng (warning|error): |Corrupt JPEG data|Premature end of JPEG|Invalid SOS parameters|Bogus "
    rb"|Inconsistent progression|Unsupported marker type|Warning: unknown JFIF|Application transferred ).*"
)


class _Stderr:
    """The process's stderr while images are decoded, by one thread or several."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._file = self._real = -1
        self._read = 0

    def take(self) -> None:
        with self._lock:
            if not self._users:
                if self._file < 0:
                    self._file = os.memfd_create("stderr")
                    # Without it two threads that write concurrently may write to one place.
                    fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
                self._empty()
                self._real = os.dup(_STDERR)
                os.dup2(self._file, _STDERR)
            self._users += 1

    def give_back(self) -> list[str]:
        """Let the others' lines go where they were going.

        Returns:
            The libraries' lines.
        """
        with self._lock:
            self._users -= 1
            if not self._users:
                os.dup2(self._real, _STDERR)
            said, rest = [], b""
            for line in self._new().splitlines(keepends=True):
                if _OF_LIBRARIES.match(line):
                    said.append(line.decode(errors="replace").strip())
                else:
                    rest += line
            # Whoever read stderr may be gone: its lines are lost then, as without this, and the image is not.
            with contextlib.suppress(OSError):
                while rest:
                    rest = rest[os.write(self._real, rest) :]
            if not self._users:
                os.close(self._real)
            return said

    def _new(self) -> bytes:
        size = os.fstat(self._file).st_size - self._read
        if size <= 0:
            return b""
        text = os.pread(self._file, size, self._read)
        self._read += len(text)
        return text

    def _empty(self) -> None:
        """Let go what was read: a camera whose every image has such a line would fill the memory in days.

        Not as soon as it is read, when a line may be on its way still.
        """
        if self._read >= KEPT_BYTES and os.fstat(self._file).st_size == self._read:
            os.ftruncate(self._file, 0)
            self._read = 0


class _Told:
    """When a line was last logged, and how many have come since."""

    def __init__(self) -> None:
        self.at, self.since = -EVERY_S, 0


_stderr = _Stderr()
_told = _Told()
# Whether this thread is within `logged`.
_mine = threading.local()


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """While an image is decoded, keep what its library writes from the terminal, and log it now and then.

    What other threads write to stderr meanwhile comes a moment later, as it is.
    """
    if getattr(_mine, "taken", False):
        yield
        return
    _mine.taken = _take()
    try:
        yield
    finally:
        if _mine.taken:
            _give_back()
        _mine.taken = False


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """While a thread within `logged` waits for a disk: others' lines must not wait with it."""
    if not getattr(_mine, "taken", False):
        yield
        return
    _give_back()
    try:
        yield
    finally:
        _mine.taken = _take()


def _take() -> bool:
    """Whether there is a stderr to take."""
    try:
        _stderr.take()
    except OSError:
        return False
    return True


def _give_back() -> None:
    said = _stderr.give_back()
    if said:
        _tell(said[0])


def _tell(line: str) -> None:
    now = time.monotonic()
    if now - _told.at < EVERY_S:
        _told.since += 1
        return
    others = f" ({_told.since} more images since the last such line)" if _told.since else ""
    _told.at, _told.since = now, 0
    logger.warning("an image is damaged, or not as its standard wants it: %s%s", line, others)
