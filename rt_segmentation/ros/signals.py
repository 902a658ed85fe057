"""Signals that come before a node has its own handlers."""

from __future__ import annotations

import os
import signal


def answer_signals() -> None:
    """From now on SIGINT and SIGTERM end the process with status 0, until `run_node` has its own handlers.

    There is nothing to clean up yet; an exception would end in an import's traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
