"""Many bags by several workers: bags are the unit, a worker that dies costs its bag one more try.

What comes back are the same states of bags that one process would have made, so the result is the same.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rt_segmentation.evaluation.bag.job import THROUGHPUT, Job, Models, Settings
from rt_segmentation.evaluation.bag.one import Progress, evaluate_bag
from rt_segmentation.evaluation.bag.state import BagState
from rt_segmentation.evaluation.bag.throughput import frames_at_once

MAX_TRIES = 2
POLL_S = 0.2

# Told the bag's number, the frames that are done of it, and whether that is all of it.
FleetProgress = Callable[[int, int, bool], None]


@dataclass(frozen=True)
class Death:
    """A worker ended before its bag did; `retry` says whether another one may fare better."""

    reason: str
    retry: bool = True


@dataclass(frozen=True)
class Failure:
    """A bag cannot be evaluated; its worker lives, and can take the next one."""

    reason: str


# What a worker has to say: frames done so far, a finished bag, one that failed, or nothing ever again.
Event = int | BagState | Failure | Death


class Worker:
    """Loads the models once and evaluates bag after bag.

    Args:
        settings: of the evaluation.
        stopped: ends the current bag, and later ones, early.
        parallel: frames segmented concurrently in throughput mode; by default as the cores allow.
    """

    def __init__(
        self, settings: Settings, stopped: threading.Event | None = None, parallel: int | None = None
    ) -> None:
        throughput = settings.mode == THROUGHPUT
        parallel = (parallel or frames_at_once()) if throughput else settings.parallel_frames
        self._models = Models(
            settings.models,
            settings.engine,
            settings.precision,
            parallel,
            settings.roi,
            settings.rotation,
            settings.groups,
            settings.truth_classes,
        )
        self._stop = stopped or threading.Event()

    def evaluate(self, job: Job, progress: Progress = lambda _: None) -> BagState:
        """Evaluate a bag; raises as `evaluate_bag`."""
        return evaluate_bag(job, self._models, self._stop, progress)

    def stop(self) -> None:
        """End the current bag, and later ones, early."""
        self._stop.set()


class Crew(Protocol):
    """Workers somewhere, each known by a number."""

    def hire(self) -> int:
        """Start a worker; returns its number."""
        ...

    def give(self, worker: int, job: Job) -> None:
        """Hand a bag to a worker that has none."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[int, Event]]:
        """What workers have had to say, waiting at most `timeout_s` for the first of it.

        The first event about a bag is the frames done, 0 or more, unless the worker was dead before.
        """
        ...

    def stop(self) -> None:
        """Ask all workers to end their bags early."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def evaluate_fleet(
    jobs: Sequence[Job], crew: Crew, size: int, stop: threading.Event, progress: FleetProgress
) -> dict[int, BagState | str]:
    """Evaluate bags by a crew of at most `size` workers.

    Returns:
        By the job's number: its state, or why there is none; without the jobs that `stop` came before.
    """
    waiting, working, idle = deque(jobs), dict[int, Job](), list[int]()
    found: dict[int, BagState | str] = {}
    tries: Counter[int] = Counter()
    # Workers that have finished a bag, and have said nothing of the next one yet.
    between: set[int] = set()
    stopped = False
    while waiting or working:
        if stop.is_set() and not stopped:
            stopped = True
            waiting.clear()
            crew.stop()
        while waiting and len(working) < size:
            worker = idle.pop() if idle else crew.hire()
            working[worker] = waiting.popleft()
            tries[working[worker].index] += 1
            crew.give(worker, working[worker])
        for worker, event in crew.wait(POLL_S):
            if worker not in working:
                # It died between two bags.
                idle = [other for other in idle if other != worker]
                continue
            job = working[worker]
            if isinstance(event, int):
                between.discard(worker)
                progress(job.index, event, False)
                continue
            del working[worker]
            if not isinstance(event, Death):
                found[job.index] = event.reason if isinstance(event, Failure) else event
                idle.append(worker)
                between.add(worker)
                progress(job.index, 0 if isinstance(event, Failure) else event.next_index, True)
            elif event.retry and stop.is_set():
                # That is how a worker ends which has not loaded its models yet.
                continue
            elif worker in between and event.retry:
                # It was dead before it had this bag, which did not kill it.
                tries[job.index] -= 1
                waiting.append(job)
            elif event.retry and tries[job.index] < MAX_TRIES:
                # What the dead worker had saved is not done again, but half a video cannot be continued.
                waiting.append(replace(job, resume=not job.settings.video))
            else:
                found[job.index] = event.reason
                progress(job.index, 0, True)
    return found
