"""How long a training takes on a machine, from some of its steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from rt_segmentation.training.data import Batch
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.threads import ThreadChoice, may_choose

WARM_UP = 3
MEASURED = 12
LIMIT_S = 60.0
"""Of each of the measurements, for a training whose time is limited."""
LEAST = 3
"""Batches that are timed in any case: the first tells when the second begins."""
MAX_VALIDATIONS = 40
RESERVE = 0.05
"""Share of the given time that is kept for what no measurement foresees."""


@dataclass(frozen=True)
class Timing:
    """What a training's parts take.

    Attributes:
        epoch_s: an epoch's steps, with loading [s].
        validation_s: a validation [s].
        step_s: one step, with loading [s].
    """

    epoch_s: float
    validation_s: float
    step_s: float

    def training_s(self, epochs: int, most: int = MAX_VALIDATIONS) -> float:
        """A whole training with its validations, and the measurement of the stored model [s].

        Args:
            epochs: of the training.
            most: as for `validation_interval`.
        """
        # The last one is of the stored model.
        validations = -(-epochs // validation_interval(epochs, most)) + 1
        return epochs * self.epoch_s + validations * self.validation_s

    def epochs_within(self, seconds: float, epochs: int, most: int = MAX_VALIDATIONS) -> int:
        """How many epochs can be trained in a time, `epochs` at most; `most` as for `validation_interval`.

        Raises:
            TrainingError: not even one.
        """
        for fewer in range(epochs, 0, -1):
            if self.training_s(fewer, most) <= seconds * (1 - RESERVE):
                return fewer
        raise TrainingError(
            f"one epoch with its validation takes about {timedelta(seconds=round(self.training_s(1)))} here,"
            f" and {timedelta(seconds=max(0, round(seconds)))} is left; give --max-hours more"
        )


def validation_interval(epochs: int, most: int = MAX_VALIDATIONS) -> int:
    """Epochs from one validation to the next, for `most` of them at most; see `Validations`."""
    return -(-epochs // most)


class Validations(lightning.Callback):
    """Has a validation each few epochs, counted from the end: the last epoch has one.

    Args:
        interval: epochs from one to the next.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell it for the epoch in which a training resumes: Lightning does not start that one again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the trainer whether this epoch ends with one."""
        assert trainer.max_epochs is not None
        left = trainer.max_epochs - 1 - trainer.current_epoch
        trainer.check_val_every_n_epoch = 1 if left % self._interval == 0 else trainer.max_epochs + 1


def measure(
    machine: Machine,
    module: lightning.LightningModule,
    training: DataLoader[Batch],
    validation: DataLoader[Batch],
    limit_s: float = LIMIT_S,
    compiled: bool = False,
) -> Timing:
    """Train a copy of a module for some steps, and validate some frames; all processes take part.

    On a CPU the number of threads is chosen first, as in the training that follows.

    Args:
        machine: runs it.
        module: stays as it is.
        training: a loader that is used for nothing else.
        validation: a loader of the validation frames.
        limit_s: for the steps, and once more for the validation, on a slow machine [s].
        compiled: whether its network is compiled, which a copy is not by itself. The first step, which waits
            for that, is not timed; the training finds most of it in torch's cache.
    """
    threads = ThreadChoice(may_choose(machine, compiled))
    clock = _Clock(limit_s, threads)
    trainer = machine.trainer(
        max_epochs=-1,
        max_steps=threads.steps + WARM_UP + MEASURED,
        limit_val_batches=WARM_UP + MEASURED,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[threads, clock],
    )
    trial: Any = copy.deepcopy(module)
    if compiled:
        trial.network.compile()
    trainer.fit(trial, training)
    step_s = clock.mean_s()
    # A step has a batch's forward pass, and more.
    most = max(LEAST, min(WARM_UP + MEASURED, int(limit_s / max(step_s, 1e-3))))
    trainer.limit_val_batches = trainer.strategy.broadcast(most)
    # A training's validations have as many as its steps.
    all_threads = torch.get_num_threads()
    torch.set_num_threads(threads.chosen or all_threads)
    trainer.validate(trial, validation, verbose=False)
    torch.set_num_threads(all_threads)
    timing = Timing(len(training) * step_s, len(validation) * clock.mean_s(), step_s)
    # All processes must come to the same schedule.
    slowest: Timing = trainer.strategy.broadcast(timing)
    return slowest


def of_first_process(value: float) -> float:
    """The value that the first of the processes has, for all to come to the same schedule."""
    if not torch.distributed.is_initialized():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def loading_rate(loader: DataLoader[Batch], limit_s: float = LIMIT_S) -> float:
    """Measure the frames per second of a loader while nothing else runs, for `limit_s` seconds at most [1/s].

    Batches that its workers prepare ahead are not counted.
    """
    ahead = loader.num_workers * (loader.prefetch_factor or 0) + 1
    batches = _forever(loader)
    for _ in islice(batches, ahead):
        pass
    started, frames = time.perf_counter(), 0
    for images, *_ in islice(batches, ahead + MEASURED):
        frames += len(images)
        if time.perf_counter() - started > limit_s:
            break
    return frames / (time.perf_counter() - started)


def _forever(loader: DataLoader[Batch]) -> Iterable[Batch]:
    while True:
        yield from loader


class _Clock(lightning.Callback):
    """Takes the times between the ends of batches."""

    def __init__(self, limit_s: float, threads: ThreadChoice) -> None:
        self._limit_s, self._threads = limit_s, threads
        self._ends: list[float] = []

    def mean_s(self) -> float:
        """Of the batches since it was called last, without the first ones."""
        ends, self._ends = self._ends, []
        ends = ends[min(WARM_UP, max(0, len(ends) - 2)) :]
        return (ends[-1] - ends[0]) / max(1, len(ends) - 1) if ends else 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self._threads.chosen is None:
            return
        self._ends.append(time.perf_counter())
        late = len(self._ends) >= LEAST and self._ends[-1] - self._ends[0] > self._limit_s
        trainer.should_stop = trainer.strategy.broadcast(late)

    def on_validation_batch_end(self, *_: Any) -> None:
        self._ends.append(time.perf_counter())
