"""The troubles of the diagnostics in the log: each once when it begins, and once when it is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rclpy.impl.rcutils_logger import RcutilsLogger

# What comes and goes each second is one trouble.
OVER_AFTER_S = 3.0


def kind_of(sentence: str) -> str:
    """What is the same in sentences in which numbers alone differ: they are of one trouble."""
    return re.sub(r"\d+(\.\d+)?", "#", sentence)


class _Trouble(NamedTuple):
    sentence: str
    began: float
    last: float


class TroubleLog:
    """Remembers what was said.

    Args:
        logger: the node's.
        clock: monotonic seconds.
        whose: stands before each sentence, where the node has several parts.
    """

    def __init__(
        self, logger: RcutilsLogger, clock: Callable[[], float] = time.monotonic, whose: str = ""
    ) -> None:
        self._logger, self._clock = logger, clock
        self._before = f"{whose}: " if whose else ""
        self._open: dict[str, _Trouble] = {}

    def update(self, sentences: Iterable[str], listened: bool) -> None:
        """Warn of what is new, and say what is over.

        Args:
            sentences: all troubles of the moment; where numbers alone differ it is the same one.
            listened: whether anybody listens; if not, troubles of the frames are neither there nor over.
        """
        now = self._clock()
        for sentence in sentences:
            kind = kind_of(sentence)
            before = self._open.get(kind)
            self._open[kind] = _Trouble(sentence, before.began if before else now, now)
            if before is None:
                self._logger.warning(f"{self._before}{sentence}")
        for kind, trouble in list(self._open.items()):
            if not listened and trouble.last < now:
                del self._open[kind]
            elif now - trouble.last >= OVER_AFTER_S:
                del self._open[kind]
                took_s = trouble.last - trouble.began
                self._logger.info(f"over after {took_s:.0f} s: {self._before}{trouble.sentence}")
