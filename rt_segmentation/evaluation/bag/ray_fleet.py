"""Workers as actors of a Ray cluster; bags, labels and output lie where all its machines see them."""

from __future__ import annotations

import importlib
import os
from typing import Any

from rt_segmentation.evaluation.bag.fleet import Death, Event, Worker
from rt_segmentation.evaluation.bag.job import Job, Settings
from rt_segmentation.evaluation.dataset import EvaluationError

LOCAL = "local"


class RayCrew:
    """Actors that reserve one CPU each.

    Args:
        settings: of the evaluation.
        address: of a running cluster, 'auto' for the one that this machine belongs to, or 'local' for one
            that is started on this machine and ends with the crew.

    Raises:
        EvaluationError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, settings: Settings, address: str) -> None:
        # Nobody asked for statistics to be sent to Ray's makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise EvaluationError("--ray needs Ray: pip install 'rt_segmentation[fleet]'") from None
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
        # One call evaluates; the other place is for `stop`.
        self._actor_class = ray.remote(num_cpus=1, max_concurrency=2)(Worker)
        self._actors: list[Any] = []
        self._calls: dict[Any, int] = {}

    @property
    def cpus(self) -> int:
        """Of the whole cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def hire(self) -> int:
        """See `Crew.hire`."""
        self._actors.append(self._actor_class.remote(self._settings))
        return len(self._actors) - 1

    def give(self, worker: int, job: Job) -> None:
        """See `Crew.give`."""
        self._calls[self._actors[worker].evaluate.remote(job)] = worker

    def wait(self, timeout_s: float) -> list[tuple[int, Event]]:
        """See `Crew.wait`."""
        if not self._calls:
            return []
        ready, _ = self._ray.wait(list(self._calls), timeout=timeout_s)
        return [(self._calls.pop(call), self._outcome(call)) for call in ready]

    def stop(self) -> None:
        """See `Crew.stop`."""
        for worker in self._calls.values():
            self._actors[worker].stop.remote()

    def close(self) -> None:
        """See `Crew.close`."""
        self._ray.shutdown()

    def _outcome(self, call: Any) -> Event:
        errors = self._ray.exceptions
        try:
            state: Event = self._ray.get(call)
            return state
        except errors.ActorUnschedulableError as error:
            return Death(f"no machine of the cluster can take a worker: {error}", retry=False)
        except errors.RayTaskError as error:
            return Death(f"{type(error.cause).__name__}: {error.cause}", retry=False)
        except errors.RayActorError as error:
            cause = getattr(error, "error_msg", None) or str(error)
            return Death(f"its worker died: {str(cause).strip().splitlines()[0]}")
