"""How a training went: rows by step, as CSV and as curves, continued where a killed training stopped."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from rt_segmentation.files import write_atomically
from rt_segmentation.training.curves import draw_curves

Row = dict[str, float]

ROWS = 1000
"""Rows of steps that a training writes, at most; each has the mean loss since the one before."""

REDRAW_S = 60.0


class History(lightning.Callback):
    """Writes ``log.csv`` and ``curves.png`` into a folder, during the training and at its end.

    It is saved in checkpoints: what a resumed training repeats is not written twice.

    Args:
        folder: where the files go.
        metric: of the validation.

    Attributes:
        rows: by step: 'epoch' (from 1), 'step', 'seconds' of training, and 'loss' with 'learning_rate' or
            what the validation logged.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self._folder, self._metric = folder, metric
        self.rows: list[Row] = []
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._losses: list[torch.Tensor] = []
        self._drawn = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time of training, without what a kill has undone."""
        return self._seconds_before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rows, self._seconds_before = list(state_dict["rows"]), state_dict["seconds"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Take the learning rate, before the schedule advances."""
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        pl_module.log("learning_rate", self._rate)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Take the loss, and write now and then."""
        # Read when a row needs it: to wait for each step leaves a GPU without work.
        self._losses.append(trainer.callback_metrics["loss"].detach().clone())
        if trainer.global_step % max(1, int(trainer.estimated_stepping_batches) // ROWS) == 0:
            loss = float(torch.stack(self._losses).double().mean())
            self._losses.clear()
            self._add(trainer, {"loss": loss, "learning_rate": self._rate})
        if time.monotonic() - self._drawn >= REDRAW_S:
            self._write(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the validation's figures."""
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name == self._metric or name.startswith("iou/")
        }
        self._add(trainer, figures)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write all."""
        self._write(trainer)

    def _add(self, trainer: lightning.Trainer, figures: Row) -> None:
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "seconds": round(self.seconds, 1),
                **figures,
            }
        )

    def _write(self, trainer: lightning.Trainer) -> None:
        self._drawn = time.monotonic()
        if not trainer.is_global_zero:
            return
        columns = dict.fromkeys(column for row in self.rows for column in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self._folder / "log.csv", text.getvalue().encode())
        draw_curves(self.rows, self._metric, self._folder / "curves.png")
