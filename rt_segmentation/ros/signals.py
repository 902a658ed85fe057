"""Signals where rclpy is not to answer them: before a node is there, and in commands that start nodes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


def answer_signals() -> None:
    """From now on SIGINT and SIGTERM end the process with status 0, until `run_node` has its own handlers.

    There is nothing to clean up yet; an exception would end in an import's traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Leave the block at SIGTERM as at Ctrl-C: the processes that it has started end with it.

    Raises:
        SystemExit: SIGTERM came; the exit status is 143, as a shell has it.
    """

    def end(number: int, _: object) -> None:
        # Whoever asks twice would keep the processes from their end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
