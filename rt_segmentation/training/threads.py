"""How many threads a training's steps take on a CPU: as many as make them fastest there."""

from __future__ import annotations

import logging
import os
import statistics
import time
from typing import Any

import lightning
import torch

from rt_segmentation.training.machine import Machine

WARM_UP = 2
"""Steps before those that are timed."""
ROUNDS = 3
"""Steps with each number of threads, which take turns: what else the machine does then meets all of them."""
GAIN = 1.05
"""Fewer threads are taken where steps are so many times as fast with them."""

_log = logging.getLogger(__name__)


def may_choose(machine: Machine, compiled: bool) -> bool:
    """Whether the number of threads is this package's to choose.

    It is not where the environment says it (`OMP_NUM_THREADS`, which torchrun sets as well), where other
    processes wait for this one's steps, on a GPU, and where torch.compile has written it into what it made.
    """
    return not (machine.gpu or machine.share.world > 1 or compiled or "OMP_NUM_THREADS" in os.environ)


def numbers_of_threads(most: int) -> list[int]:
    """The numbers that are tried, the highest first: each half of the one before."""
    numbers = [most]
    while numbers[-1] > 1:
        numbers.append(numbers[-1] // 2)
    return numbers


class ThreadChoice(lightning.Callback):
    """Times a training's first steps with several numbers of threads, and keeps the fastest for the others.

    After each operation PyTorch's threads wait for one another. Where cores share no cache, or other work
    runs on them, that may take longer than the second thread saves. No step is lost by it: those that are
    timed are steps of the training. A checkpoint has the number: what resumes from it computes with as many.

    Args:
        choose: whether to; otherwise the number stays as it is.

    Attributes:
        chosen: the number of threads; None until it is known.
        steps: that pass until it is, at most.
    """

    def __init__(self, choose: bool) -> None:
        self.chosen: int | None = None
        most = torch.get_num_threads()
        self._numbers = numbers_of_threads(most) if choose else [most]
        self._order = [self._numbers[0]] * WARM_UP + self._numbers * ROUNDS
        self._times_s: dict[int, list[float]] = {number: [] for number in self._numbers}
        self.steps = len(self._order)
        self._step, self._began = 0, 0.0
        if len(self._numbers) == 1:
            self.chosen, self.steps = most, 0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"threads": self.chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint; with more threads than there are here the number is chosen again."""
        threads = state_dict["threads"]
        if threads in self._numbers:
            self._take(threads)

    def on_train_batch_start(self, *_: Any) -> None:
        """Set the number of threads whose turn it is."""
        if self.chosen is None:
            torch.set_num_threads(self._order[self._step])
            self._began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Take the time; after the last of these steps, choose."""
        if self.chosen is not None:
            return
        if self._step >= WARM_UP:
            self._times_s[self._order[self._step]].append(time.perf_counter() - self._began)
        self._step += 1
        if self._step == self.steps:
            self._choose({number: statistics.median(times) for number, times in self._times_s.items()})

    def on_train_end(self, *_: Any) -> None:
        """Give whoever comes next all threads, as the next fold's training."""
        torch.set_num_threads(self._numbers[0])

    def on_exception(self, *_: Any) -> None:
        """As at its end."""
        torch.set_num_threads(self._numbers[0])

    def _choose(self, step_s: dict[int, float]) -> None:
        most = self._numbers[0]
        best = min(self._numbers, key=lambda number: step_s[number])
        self._take(best if GAIN * step_s[best] < step_s[most] else most)
        if self.chosen != most:
            _log.warning(
                "a step takes %.2f s with %d of %d threads and %.2f s with all, so it has %d from here on;"
                " OMP_NUM_THREADS sets another number",
                step_s[best],
                best,
                most,
                step_s[most],
                best,
            )

    def _take(self, threads: int) -> None:
        self.chosen = threads
        torch.set_num_threads(threads)
