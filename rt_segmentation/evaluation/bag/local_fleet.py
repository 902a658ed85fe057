"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from rt_segmentation.evaluation.bag.fleet import Death, Event, Failure, Worker
from rt_segmentation.evaluation.bag.job import Job, Settings

PROGRESS_FRAMES = 10
CLOSE_TIMEOUT_S = 10.0


class LocalCrew:
    """Processes that share the cores of this machine evenly.

    Args:
        settings: of the evaluation.
        size: how many workers there will be.
    """

    def __init__(self, settings: Settings, size: int) -> None:
        self._settings, self._size = settings, size
        self._workers: list[tuple[BaseProcess, Connection]] = []

    def hire(self) -> int:
        """See `Crew.hire`."""
        # A forked process would inherit threads of engines in an unknown state.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        number = len(self._workers)
        process = context.Process(
            target=_serve, args=(theirs, self._settings, number % self._size, self._size), daemon=True
        )
        process.start()
        theirs.close()
        self._workers.append((process, ours))
        return number

    def give(self, worker: int, job: Job) -> None:
        """See `Crew.give`."""
        # If it is dead, `wait` will say so.
        with contextlib.suppress(OSError):
            self._workers[worker][1].send(job)

    def wait(self, timeout_s: float) -> list[tuple[int, Event]]:
        """See `Crew.wait`."""
        numbers = {id(pipe): number for number, (_, pipe) in enumerate(self._workers) if not pipe.closed}
        events: list[tuple[int, Event]] = []
        for pipe in wait([pipe for _, pipe in self._workers if not pipe.closed], timeout_s):
            assert isinstance(pipe, Connection)
            number = numbers[id(pipe)]
            try:
                event: Event = pipe.recv()
            except (EOFError, OSError):
                process = self._workers[number][0]
                process.join()
                pipe.close()
                event = Death(f"its worker died {_how(process.exitcode)}")
            events.append((number, event))
        return events

    def stop(self) -> None:
        """See `Crew.stop`."""
        for process, _ in self._workers:
            if process.is_alive():
                process.terminate()

    def close(self) -> None:
        """See `Crew.close`."""
        for process, pipe in self._workers:
            pipe.close()
            process.join(CLOSE_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(pipe: Connection, settings: Settings, place: int, places: int) -> None:
    # Ctrl-C goes to the whole group; the parent decides what it means, and says so by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_to_own_cores(place, places)
    try:
        worker = Worker(settings)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        while True:
            job: Job = pipe.recv()

            def progress(frames: int) -> None:
                if frames % PROGRESS_FRAMES == 0:
                    pipe.send(frames)

            progress(0)
            try:
                pipe.send(worker.evaluate(job, progress))
            except Exception as error:
                pipe.send(Failure(f"{type(error).__name__}: {error}"))
    except EOFError:
        return
    except Exception as error:
        pipe.recv()
        pipe.send(Death(str(error), retry=False))


def _keep_to_own_cores(place: int, places: int) -> None:
    """Engines take as many threads as there are cores: without this, `places` times too many."""
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[place::places] or {cores[place % len(cores)]})


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"of signal {-exit_code}"
    return f"with exit code {exit_code}"
