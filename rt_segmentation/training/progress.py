"""How far a training is: a bar on a terminal; in a log a line a minute, and one after each validation."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import TQDMProgressBar

SECONDS_BETWEEN_LINES = 60.0


def progress(metric: str) -> lightning.Callback:
    """The callback for where stderr leads to."""
    return _Bar() if sys.stderr.isatty() else _Lines(metric)


class _Clock:
    """Time until the last step, from the steps since the start."""

    def __init__(self, trainer: lightning.Trainer) -> None:
        self._started, self._first = time.monotonic(), trainer.global_step

    def left(self, trainer: lightning.Trainer) -> str:
        done = trainer.global_step - self._first
        if not done:
            return "?"
        rate = (time.monotonic() - self._started) / done
        return str(
            timedelta(seconds=round(rate * (trainer.estimated_stepping_batches - trainer.global_step)))
        )


class _Bar(TQDMProgressBar):
    """Lightning's bar of an epoch, with what the module logs for it and the time left of the training."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._clock = _Clock(trainer)
        super().on_train_start(trainer, pl_module)

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {**metrics, "left": self._clock.left(trainer)}


class _Lines(lightning.Callback):
    def __init__(self, metric: str) -> None:
        self._metric = metric

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._clock = _Clock(trainer)
        self._printed = time.monotonic()

    # Many epochs may lie between two validations: who reads the log sees that the training goes on.
    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.is_global_zero and time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._print(
                trainer,
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs},"
                f" batch {batch_idx + 1}/{trainer.num_training_batches}",
                "",
            )

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            score = float(trainer.callback_metrics[self._metric])
            self._print(
                trainer,
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
                f" {self._metric.replace('_', ' ').replace('iou', 'IoU')} {score:.4f},",
            )

    def _print(self, trainer: lightning.Trainer, place: str, score: str) -> None:
        loss = float(trainer.callback_metrics["loss"])
        print(f"{place}: loss {loss:.4f},{score} {self._clock.left(trainer)} left", flush=True)
        self._printed = time.monotonic()
