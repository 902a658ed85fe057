"""How far a training is: a bar on a terminal, a line after each validation in a log."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import TQDMProgressBar


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

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            figures = trainer.callback_metrics
            print(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: loss {float(figures['loss']):.4f},"
                f" {self._metric.replace('_', ' ').replace('iou', 'IoU')} {float(figures[self._metric]):.4f},"
                f" {self._clock.left(trainer)} left",
                flush=True,
            )
