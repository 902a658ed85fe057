"""Workers as actors of a Ray cluster; bags, labels and output lie where all its machines see them."""

from __future__ import annotations

import importlib
import os
from typing import Any

from rt_segmentation.evaluation.bag.fleet import Death, Event, Failure, Worker
from rt_segmentation.evaluation.bag.job import Job, Settings
from rt_segmentation.evaluation.dataset import EvaluationError

LOCAL = "local"


class RayCrew:
    """Actors that reserve one CPU each, and work at one frame at a time.

    Args:
        settings: of the evaluation.
        address: of a running cluster, 'auto' for the one that this machine belongs to, or 'local' for one
            that is started on this machine and ends with the crew.

    Raises:
        EvaluationError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, settings: Settings, address: str) -> None:
        # Ray would send usage statistics to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise EvaluationError("--ray needs Ray: pip install ray") from None
        self._ray, self._settings = ray, settings
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False if address == LOCAL else None,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise EvaluationError(f"no Ray cluster at '{address}': {error}") from error
        # One call evaluates; the other place is for `stop`, and to say that the worker lives.
        self._actor_class = ray.remote(num_cpus=1, max_concurrency=2)(Worker)
        self._actors: list[Any] = []
        self._calls: dict[Any, int] = {}
        # For each bag that was given away, a call that succeeds when its worker was alive then.
        self._begun: dict[int, Any] = {}

    @property
    def cpus(self) -> int:
        """Of the whole cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def hire(self) -> int:
        """See `Crew.hire`."""
        # A machine has many workers, and none knows which cores are the others'.
        self._actors.append(self._actor_class.remote(self._settings, parallel=1))
        return len(self._actors) - 1

    def give(self, worker: int, job: Job) -> None:
        """See `Crew.give`."""
        actor = self._actors[worker]
        self._begun[worker] = actor.__ray_ready__.remote()
        self._calls[actor.evaluate.remote(job)] = worker

    def wait(self, timeout_s: float) -> list[tuple[int, Event]]:
        """See `Crew.wait`."""
        if not self._calls:
            return []
        calls = [*self._begun.values(), *self._calls]
        self._ray.wait(calls, timeout=timeout_s)
        ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        events: list[tuple[int, Event]] = []
        for worker in [worker for worker, call in self._begun.items() if call in ready]:
            if self._lives(self._begun.pop(worker)):
                events.append((worker, 0))
        for call in [call for call in self._calls if call in ready]:
            worker = self._calls.pop(call)
            self._begun.pop(worker, None)
            events.append((worker, self._outcome(worker, call)))
        return events

    def stop(self) -> None:
        """See `Crew.stop`."""
        for worker in self._calls.values():
            self._actors[worker].stop.remote()

    def close(self) -> None:
        """See `Crew.close`."""
        self._ray.shutdown()

    def _lives(self, begun: Any) -> bool:
        try:
            self._ray.get(begun)
        except self._ray.exceptions.RayError:
            return False
        return True

    def _outcome(self, worker: int, call: Any) -> Event:
        errors = self._ray.exceptions
        try:
            state: Event = self._ray.get(call)
            return state
        except errors.ActorUnschedulableError as error:
            return Death(f"no machine of the cluster can take a worker: {error}", retry=False)
        except errors.RayTaskError as error:
            return Failure(f"{type(error.cause).__name__}: {error.cause}")
        except errors.RayError as error:
            # One that is only out of reach would keep its CPU, and continue writing.
            self._ray.kill(self._actors[worker])
            # An actor's error ends with why, after where it was; others begin with it, before advice.
            lines = str(error).strip().splitlines()
            return Death(f"its worker died: {lines[-1 if isinstance(error, errors.RayActorError) else 0]}")
